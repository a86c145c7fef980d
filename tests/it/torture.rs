//! Proofs that take long where they are to be believed: a short form of each is an ordinary test, the long
//! form is asked for by an environment variable, and says what it found.

mod kills;
mod disk;

use std::io::Write;

/// How often: the environment variable's value, else the short form's.
pub fn times(variable: &str, short: u64) -> u64 {
    let long = std::env::var(variable).ok();
    long.map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Says what was found: on stderr, and at the end of the file `WEIR_TORTURE_REPORT`, if there is one.
pub fn report(text: &str) {
    eprintln!("{text}");
    let Some(path) = std::env::var_os("WEIR_TORTURE_REPORT") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.expect("the report's file can be written"), "{text}").expect("as above");
}
