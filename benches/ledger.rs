//! What the ledger costs and how fast it answers, as figures of their own and not as averages: what an
//! append takes at worst, how fast the drain is, a report out of many rows. `WEIR_LEDGER_ROWS` says how
//! many rows, a million by default. It writes to the disk that the target directory is on.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use weir::bench::{Draining, Journaling, KEYS, Year};

/// As the drain's.
const BATCH: usize = 4_000;
const APPENDS: usize = 10_000;
const DRAINED: u64 = 200_000;
/// Reports of different keys and months.
const REPORTS: u64 = 50;

fn main() {
    let rows = std::env::var("WEIR_LEDGER_ROWS").ok();
    let rows = rows.map_or(1_000_000, |text| text.parse().expect("WEIR_LEDGER_ROWS is a number"));
    let mut lines = vec![("journal, open and close of a request", journal())];
    lines.push(("drain, rows a second", drain()));
    lines.extend(year(rows));
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

fn year(total: u64) -> Vec<(&'static str, String)> {
    let dir = directory();
    let mut year = Year::new(dir.path(), total);
    let mut left = usize::try_from(total).expect("an address space has more");
    let (mut spent, mut said) = (Duration::ZERO, Instant::now());
    while left > 0 {
        let rows = year.rows(left.min(BATCH));
        let begun = Instant::now();
        left -= year.append(&rows);
        spent += begun.elapsed();
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("{} of {total} rows are in the store", total as usize - left);
        }
    }
    let size = std::fs::metadata(dir.path().join("weir.sqlite")).expect("the store").len();
    let mut requests = 0;
    let report = |number: u64| {
        let begun = Instant::now();
        let found = Year::month_of(dir.path(), number * 7 % KEYS, (number * 13 % 335) as i64);
        assert!(found.0 > 0 && found.1 == 77 * found.0, "{found:?}");
        requests = requests.max(found.0);
        begun.elapsed()
    };
    let mut times: Vec<_> = (0..REPORTS).map(report).collect();
    let first = times[0].as_secs_f64() * 1e3;
    let at = spread(&mut times);
    let ms = |share| at(share).as_secs_f64() * 1e3;
    vec![
        ("rows in the store, of a year and 100 keys", format!("{total}, {} MB", size >> 20)),
        ("… stored, rows a second", format!("{:.0}", total as f64 / spent.as_secs_f64())),
        (
            "a month of one key, by day and model",
            format!(
                "median {:.1} ms, worst of {REPORTS} {:.1} ms (the first {first:.1} ms)",
                ms(0.5),
                ms(1.0)
            ),
        ),
        ("… of so many requests", requests.to_string()),
    ]
}
