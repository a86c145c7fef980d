//! What the ledger costs and how fast it answers, as figures of their own and not as averages: what an
//! append takes at worst, how fast the drain is, and of many rows a report, the balances that a start reads
//! and `weir verify`. `WEIR_LEDGER_ROWS` says how many rows (a million by default), of how many
//! `WEIR_LEDGER_KEYS` (100,000) in how many `WEIR_LEDGER_DAYS` (365). It writes to the disk that the target
//! directory is on.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use weir::bench::{Draining, History, Journaling};

/// As the drain's.
const BATCH: usize = 4_000;
const APPENDS: usize = 10_000;
const DRAINED: u64 = 200_000;
/// Reports of different keys and months.
const REPORTS: u64 = 50;

fn main() {
    let mut lines = vec![
        ("journal, open and close of a request".to_owned(), journal()),
        ("drain, rows a second".to_owned(), drain()),
    ];
    lines.extend(history());
    let mut text = String::from("\nThe ledger\n\n| | |\n|---|---|\n");
    for (name, value) in lines {
        text.push_str(&format!("| {name} | {value} |\n"));
    }
    std::io::stdout().write_all(text.as_bytes()).expect("somebody reads it");
    if let Some(path) = std::env::var_os("WEIR_TORTURE_REPORT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.expect("the report's file can be written"), "{text}").expect("as above");
    }
}

fn directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tempfile::tempdir_in(target).expect("the target directory is writable")
}

/// Sorted, so that a place in it is a quantile.
fn spread(times: &mut [Duration]) -> impl Fn(f64) -> Duration {
    times.sort();
    |share: f64| times[((times.len() - 1) as f64 * share) as usize]
}

fn journal() -> String {
    let dir = directory();
    let mut journaling = Journaling::new(dir.path());
    for _ in 0..1_000 {
        journaling.once();
    }
    let once = |_| {
        let begun = Instant::now();
        journaling.once();
        begun.elapsed()
    };
    let mut times: Vec<_> = (0..APPENDS).map(once).collect();
    let at = spread(&mut times);
    let ns = |share| at(share).as_nanos();
    format!("median {} ns, 99 % {} ns, worst of {APPENDS} {} ns", ns(0.5), ns(0.99), ns(1.0))
}

fn drain() -> String {
    let dir = directory();
    let mut draining = Draining::new(dir.path(), DRAINED, true);
    let begun = Instant::now();
    assert_eq!(draining.once(), DRAINED);
    let took = begun.elapsed();
    format!("{:.0} ({DRAINED} in {} ms)", DRAINED as f64 / took.as_secs_f64(), took.as_millis())
}

/// A number from the environment.
fn asked(name: &str, else_: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(else_, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// Fills a store; returns how long that took.
fn fill(history: &mut History, total: u64) -> Duration {
    let mut left = usize::try_from(total).expect("an address space has more");
    let (mut spent, mut said) = (Duration::ZERO, Instant::now());
    while left > 0 {
        let rows = history.rows(left.min(BATCH));
        let (stored, took) = timed(|| history.append(&rows));
        left -= stored;
        spent += took;
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("{} of {total} rows are in the store", total as usize - left);
        }
    }
    spent
}

fn history() -> Vec<(String, String)> {
    let total = asked("WEIR_LEDGER_ROWS", 1_000_000);
    let keys = asked("WEIR_LEDGER_KEYS", 100_000);
    let days = u32::try_from(asked("WEIR_LEDGER_DAYS", 365)).expect("a number of days");
    let dir = directory();
    let dir = dir.path();
    let mut history = History::new(dir, total, keys, days);
    let spent = fill(&mut history, total);
    let per_second = |count: u64, took: Duration| {
        format!("{:.0} ({:.1} s)", count as f64 / took.as_secs_f64(), took.as_secs_f64())
    };
    let size = std::fs::metadata(dir.join("weir.sqlite")).expect("the store").len();
    let mut lines = vec![
        (
            format!("rows in the store, of {days} days, {keys} keys and 3 models"),
            format!("{total}, {} MB", size >> 20),
        ),
        ("… stored, rows a second".to_owned(), per_second(total, spent)),
    ];
    let balances = |history: &History, zone, tenant| {
        let ((keys, requests), took) = timed(|| history.balances(dir, zone, tenant));
        format!("{} ms ({keys} keys, {requests} requests)", took.as_millis())
    };
    let unfolded = balances(&history, "UTC", None);
    let (folded, took) = timed(|| history.fold());
    lines
        .push(("roll-ups folded by the day, a second".to_owned(), per_second(folded as u64, took)));
    for (what, text) in [
        (
            "balances of the last day and month, as a start reads them",
            balances(&history, "UTC", None),
        ),
        ("… before anything is folded", unfolded),
        ("… with days that cut those of UTC", balances(&history, "America/New_York", None)),
        ("… with days that cut an hour", balances(&history, "Asia/Kolkata", None)),
        ("… of one tenant, as a changed zone reads them", balances(&history, "UTC", Some(1))),
    ] {
        lines.push((what.to_owned(), text));
    }
    lines.extend(reports(&history, dir, days));
    let (differences, took) = timed(|| history.verify(dir));
    assert_eq!(differences, 0, "the books are right");
    lines.push(("weir verify".to_owned(), format!("{:.1} s", took.as_secs_f64())));
    let (expired, took) = timed(|| history.expire());
    lines.push(("old rows deleted, a second".to_owned(), per_second(expired as u64, took)));
    lines
}

fn reports(history: &History, dir: &Path, days: u32) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (what, zone) in [
        ("a month of one key, by day and model", "UTC"),
        ("… with days that cut an hour", "Asia/Kolkata"),
    ] {
        let (mut requests, mut most) = (0, 0);
        let report = |number: u64| {
            let from_day = (number * 13) as i64 % (i64::from(days) - 30).max(1);
            let (found, took) = timed(|| history.month_of(dir, number * 7_919, from_day, zone));
            assert_eq!(found.1, 77 * found.0, "{found:?}");
            requests += found.0;
            most = most.max(found.0);
            took
        };
        let mut times: Vec<_> = (0..REPORTS).map(report).collect();
        assert!(requests > 0, "some of the keys are busy");
        let first = times[0].as_secs_f64() * 1e3;
        let at = spread(&mut times);
        let ms = |share| at(share).as_secs_f64() * 1e3;
        lines.push((
            what.to_owned(),
            format!(
                "median {:.1} ms, worst of {REPORTS} {:.1} ms (the first {first:.1} ms), of up to {most} requests",
                ms(0.5),
                ms(1.0)
            ),
        ));
    }
    lines
}
