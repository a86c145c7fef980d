//! `weir key suspend` and `weir key resume`. Both say if there was nothing to do: who types the wrong id of two
//! would take the other key for stopped.

use super::super::output::{Format, Output, note};
use super::super::time_args::rfc3339;
use super::line::{line, write_ended};
use crate::store::Switched;

/// The key opens nothing from now on.
pub(super) fn suspended(
    switched: &Switched,
    now_ms: i64,
    format: Format,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let said = match switched.before.suspended_at_ms {
        None => "is suspended: nothing opens it until `weir key resume`".to_owned(),
        Some(since_ms) => format!(
            "was suspended already, since {}: nothing opens it until `weir key resume`",
            rfc3339(since_ms)
        ),
    };
    let is_news = switched.before.suspended_at_ms.is_none();
    show(switched, is_news, &said, now_ms, format, out)
}

/// It works again, if nothing else keeps it from that.
pub(super) fn resumed(
    switched: &Switched,
    now_ms: i64,
    format: Format,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    // What could not be read may have been any time.
    let before = &switched.before;
    let was_unread = before.unreadable.iter().any(|one| &*one.column == "suspended_at_ms");
    let is_news = before.suspended_at_ms.is_some() || was_unread;
    let said = match (line(&switched.key, now_ms, format).status, is_news) {
        ("active", true) => "works again",
        ("active", false) => "was not suspended, and works",
        (_, true) => "is not suspended, and has expired: `weir key set ID --expires …`",
        (_, false) => "was not suspended, and has expired: `weir key set ID --expires …`",
    };
    show(switched, is_news, said, now_ms, format, out)
}

/// Tells people on stdout, and programs, which get the key there, on stderr what they did not expect.
fn show(
    switched: &Switched,
    is_news: bool,
    said: &str,
    now_ms: i64,
    format: Format,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    if !is_news && format != Format::Table {
        note(&format!("key `{}` {said}", switched.key.id));
    }
    write_ended(out, format, &line(&switched.key, now_ms, format), said)
}
