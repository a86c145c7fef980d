//! The drain between a journal and a store that are whole, damaged, locked, full, or gone.

use std::collections::VecDeque;
use std::path::Path;

use super::*;
use crate::config::Durability;
use crate::journal::Journal;
use crate::journal::background::Background;
use crate::journal::codec::tests::{closed, opened};
use crate::journal::simulated_disk::{Random, Simulated};
use crate::price::Rates;
use crate::record::{Closed, EventId, Opened};
use crate::store::Filter;
use crate::usage::End;

mod joining;
mod damage;
mod store;
mod waits;
mod schedule;
mod unreadable;

struct Fixture {
    dir: tempfile::TempDir,
    segment_bytes: u64,
}

impl Fixture {
    fn new(segment_bytes: u64) -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), segment_bytes }
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::new(
            Directory::open(self.dir.path(), self.segment_bytes, Durability::Crash).expect("opens"),
        )
    }

    fn drain(&self, directory: &Arc<Directory>) -> Drain {
        let store = Store::open(self.dir.path()).expect("opens");
        Drain::new(directory.clone(), store).expect("begins")
    }

    /// The ends of all rows, by how often each stands there.
    fn ends(&self) -> Vec<(End, usize)> {
        let store = Store::open(self.dir.path()).expect("opens");
        let rows = store.requests(&Filter::default(), None, 1000).expect("reads");
        let count = |end: End| (end, rows.iter().filter(|row| row.end == end.name()).count());
        End::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }
}

fn simulated(segment_bytes: u64) -> (Simulated, Arc<Directory<Simulated>>) {
    let disk = Simulated::default();
    let directory =
        Directory::on(disk.clone(), Path::new("data"), segment_bytes, Durability::Crash);
    (disk, Arc::new(directory.expect("opens")))
}
