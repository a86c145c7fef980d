//! A progress bar on stderr, for people: nothing at all where stderr is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Begins a bar that counts `unit`s up to `total`.
pub(crate) fn bar(total: u64, unit: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let template = format!("{{wide_bar}} {{human_pos}} of {{human_len}} {unit}, {{eta}} left");
    bar.with_style(ProgressStyle::with_template(&template).expect("the template is valid"))
}
