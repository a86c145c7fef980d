//! The instructions that a stage of a request takes, and a worker of the gateway for a whole one, counted by
//! callgrind: the same on a busy machine as on an idle one, so that a test can hold them to a bound.
//!
//! `cargo bench --features jemalloc --bench instructions` compares them with `benches/instructions.txt` and
//! fails where one is off by more than [`TOLERANCE`]; `make bless` writes that file. Needs valgrind
//! (`scripts/debian-tools.sh valgrind`).

mod lockstep;
mod stages;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;

use crate::lockstep::Lockstep;
use crate::stages::{Stage, Work};

/// In percent, either way: what became cheaper has to be written down too, or it would be lost unseen.
const TOLERANCE: f64 = 3.0;
const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const HEAD: &str = "\
# Instructions by callgrind, in the release profile on x86_64. Compared by `make check` and written by
# `make bless`.
";
/// So often a stage is counted that is done in no time.
const ROUNDS: u32 = 20;

#[derive(Debug, Parser)]
struct Options {
    /// Write what is counted to benches/instructions.txt
    #[arg(long)]
    bless: bool,
    /// Do this stage once uncounted and then as often as is counted; for callgrind
    #[arg(long, hide = true)]
    stage: Option<String>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !cfg!(feature = "jemalloc") {
        eprintln!(
            "what is shipped allocates with jemalloc, and so is counted: --features jemalloc"
        );
        return ExitCode::FAILURE;
    }
    // On a disk, as the ledger is.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stages = stages::stages(target);
    if let Some(name) = options.stage {
        let stage = stages.iter().find(|stage| stage.name == name);
        run(stage.expect("it is the name of a stage"));
        return ExitCode::SUCCESS;
    }
    let mut found: Vec<_> = stages.iter().map(|stage| (stage.name, count(stage))).collect();
    let lockstep = Lockstep::new(target);
    found.push(("whole: request", lockstep.request()));
    found.push(("whole: event of a stream", lockstep.event()));
    if options.bless {
        let lines = found.iter().map(|(name, count)| format!("{count:>9}  {name}\n"));
        std::fs::write(BOUNDS, HEAD.to_owned() + &lines.collect::<String>())
            .expect("the bounds can be written");
    }
    compare(&found)
}

/// What a stage is counted as. It has to have a name in the program.
#[inline(never)]
fn counted(work: Work) {
    work();
    black_box(());
}

fn rounds(stage: &Stage) -> u32 {
    if stage.times == 1 { ROUNDS } else { 1 }
}

fn run(stage: &Stage) {
    // What is made at the first use is not a request's.
    (stage.prepare)()();
    for _ in 0..rounds(stage) {
        counted((stage.prepare)());
    }
}

/// Instructions of a stage, by running it in a process of its own.
fn count(stage: &Stage) -> u64 {
    let this = std::env::current_exe().expect("a program knows where it is");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(this)
        .args(["--stage", stage.name])
        .output()
        .expect("valgrind is installed (scripts/debian-tools.sh valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} fails under valgrind:\n{said}", stage.name);
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected: u64 = collected.and_then(|text| text.trim().parse().ok()).expect(&said);
    collected / u64::from(rounds(stage) * stage.times)
}

fn compare(found: &[(&str, u64)]) -> ExitCode {
    let bounds = std::fs::read_to_string(BOUNDS).expect("the bounds are in the repository");
    let bounds: BTreeMap<_, _> = bounds.lines().filter_map(bound).collect();
    let mut is_held = bounds.len() == found.len();
    let mut text = String::from("    before       now  change\n");
    for (name, now) in found {
        let Some(before) = bounds.get(name) else {
            text.push_str(&format!("         ? {now:>9}          {name}\n"));
            is_held = false;
            continue;
        };
        let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
        let is_off = change.abs() > TOLERANCE;
        is_held &= !is_off;
        let mark = if is_off { "  <-- more than 3 % off" } else { "" };
        text.push_str(&format!("{before:>10} {now:>9} {change:>+6.1}%  {name}{mark}\n"));
    }
    let (end, code) = match is_held {
        true => ("", ExitCode::SUCCESS),
        false if cfg!(not(target_arch = "x86_64")) => {
            ("The bounds are of x86_64 and say nothing about this machine.\n", ExitCode::SUCCESS)
        }
        false => (
            "If that is meant, or the compiler is another one, write the new counts down:\n  \
             make bless\n",
            ExitCode::FAILURE,
        ),
    };
    std::io::stdout().write_all((text + end).as_bytes()).expect("somebody reads it");
    code
}

fn bound(line: &str) -> Option<(&str, u64)> {
    let (count, name) = line.trim().split_once("  ")?;
    Some((name, count.parse().ok()?))
}
