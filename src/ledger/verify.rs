//! `weir verify`: everything that is derived is computed again from what it was derived from, and what
//! differs is told. Roll-ups and balances come from rows, the sums of days from roll-ups, what a row costs
//! from its counts and the price that it names, rows from the journal as long as it has them.
//! Repairing touches what is derived only: a row that is wrong or missing stays so, and stays told. Only a
//! row of the future, which a clock has made that was ahead, can be given another date.

mod difference;
mod future;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::LedgerError;
use super::backlog::{Backlog, behind};
use super::open::{WaitingFor, for_report};
use super::scan::scan;
use crate::clock::timestamp;
use crate::config::Data;
use crate::store::{Counts, Owner, Recost, Store, StoreError, Sums};

pub(crate) use difference::Difference;
use difference::{fields, or_none};

/// Differences that are listed; all are counted.
const MAX_LISTED: usize = 1_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How many differences there are, by what differs.
pub(crate) type Kinds = BTreeMap<&'static str, u64>;

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// At most [`MAX_LISTED`].
    pub listed: Vec<Difference>,
    pub differences: Kinds,
    /// Those that are still there: all, unless something was mended.
    pub left: Kinds,
    /// Why the rest could not be looked at, where the file of the store is damaged.
    pub broken_off: Option<LedgerError>,
    /// What the store does not have although it should, beside a server.
    pub behind: Option<Backlog>,
    /// Rows that were given another date.
    pub redated: u64,
    pub hours: u64,
    pub rows: u64,
    /// What they cost.
    pub cost: Recost,
    /// Requests of the journal that the store must have.
    pub journal_rows: u64,
    pub damaged_bytes: u64,
}

/// Where sums are not what they are made from: hours and days since the epoch, UTC.
#[derive(Debug, Default)]
struct Differing {
    hours: Vec<i64>,
    days: Vec<i64>,
}

/// A span of time over which a limit counts, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub name: &'static str,
    pub from_ms: i64,
    pub until_ms: i64,
}

/// What is mended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mend {
    /// Roll-ups that differ are rebuilt from their rows.
    pub sums: bool,
    /// Rows of the future are given a date that can be.
    pub dates: bool,
    /// The clock is right, even if it is behind the time that was confirmed.
    pub trust_clock: bool,
}

/// Verifies a data directory at `now_ms`, beside a running server or alone; alone, the journal is
/// replayed first. Before all that, SQLite looks at its file: one that is damaged can fail everything else.
pub(crate) fn verify(
    data: &Data,
    windows: &[Window],
    now_ms: i64,
    mend: Mend,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Report, LedgerError> {
    let mut report = Report::default();
    report.file(data)?;
    let is_sound = report.differences.is_empty();
    match report.books(data, windows, now_ms, mend, tell) {
        Err(error) if !is_sound => {
            report.left = report.differences.clone();
            report.broken_off = Some(error);
        }
        other => other?,
    }
    Ok(report)
}

impl Report {
    /// Whether the file of the store is what SQLite has made of it.
    fn file(&mut self, data: &Data) -> Result<(), StoreError> {
        // What becomes of one that is not there says whoever opens it.
        let is_there = Store::is_there(&data.dir);
        let problems = if is_there { Store::problems_in(&data.dir)? } else { Vec::new() };
        for problem in problems {
            self.add(|| Difference::plain("file", "store", "integrity", problem, "ok".to_owned()));
        }
        Ok(())
    }

    /// Compares journal, rows and sums, and mends what is to be mended.
    fn books(
        &mut self,
        data: &Data,
        windows: &[Window],
        now_ms: i64,
        mend: Mend,
        tell: &mut dyn FnMut(&WaitingFor, Duration),
    ) -> Result<(), LedgerError> {
        let mut store = self.begin(data, now_ms, tell)?;
        let time = future::Time::of(&store, now_ms, mend)?;
        let Differing { hours, days } = self.store(&store, windows, &time)?;
        self.left = self.differences.clone();
        self.redated = if mend.dates { time.redate(&mut store)? } else { 0 };
        if mend.sums {
            hours.iter().try_for_each(|hour| store.rebuild_hour(*hour))?;
            days.iter().try_for_each(|day| store.rebuild_day(*day))?;
        }
        if mend.dates || mend.sums && !(hours.is_empty() && days.is_empty()) {
            let mut after = Report::default();
            after.journal(data, &store)?;
            let time = future::Time::of(&store, now_ms, mend)?;
            after.store(&store, windows, &time)?;
            after.count("file", self.differences.get("file").copied().unwrap_or(0));
            self.left = after.differences;
        }
        Ok(())
    }

    fn add(&mut self, difference: impl FnOnce() -> Difference) {
        let difference = difference();
        self.count(difference.what, 1);
        if self.listed.len() < MAX_LISTED {
            self.listed.push(difference);
        }
    }

    fn count(&mut self, what: &'static str, differences: u64) {
        if differences > 0 {
            *self.differences.entry(what).or_default() += differences;
        }
    }

    /// Compares the journal with the store, and opens the store with all that the journal had. Only so far
    /// the directory is taken; what follows reads the store, and a server may start meanwhile.
    fn begin(
        &mut self,
        data: &Data,
        now_ms: i64,
        tell: &mut dyn FnMut(&WaitingFor, Duration),
    ) -> Result<Store, LedgerError> {
        let alone = for_report(data, "verify", tell)?;
        let store = Store::open_existing(&data.dir)?;
        // Before a replay, which removes what it has read.
        self.journal(data, &store)?;
        match alone {
            Some((_lock, mut drain)) => drop(drain.replay_telling(tell)?),
            None => self.behind = behind(data, &store, now_ms)?.0,
        }
        Ok(store)
    }

    /// Whether the store has what it has read of the journal, and has it right.
    fn journal(&mut self, data: &Data, store: &Store) -> Result<(), LedgerError> {
        // No one state of the store for all of it, which would let the WAL grow meanwhile: what has been
        // stored by now is there until it is too old.
        let scanned = scan(&data.dir, &store.positions()?, |row, is_stored| {
            let (opened, closed) = (&row.opened, &row.closed);
            if !is_stored {
                return Ok(());
            }
            let _snapshot = store.snapshot()?;
            if opened.started_at_ms < store.rows_from_ms()? {
                return Ok(());
            }
            self.journal_rows += 1;
            let difference = |field: Cow<'static, str>, stored, recomputed| Difference {
                what: "row",
                place: opened.event_id.to_text(),
                tenant: opened.tenant.to_string(),
                key_id: opened.key_id.to_string(),
                model: opened.model.to_string(),
                field,
                stored,
                recomputed,
            };
            let Some(changed) = store.changed(&row)? else {
                let total = closed.usage.total.to_string();
                self.add(|| difference("total_tokens".into(), "no row".to_owned(), total));
                return Ok(());
            };
            for one in changed {
                self.add(|| difference(one.field.into(), one.stored, one.recorded));
            }
            Ok(())
        })?;
        self.damaged_bytes += scanned.whole()?.damaged_bytes;
        Ok(())
    }

    /// Whether all that is derived from rows is what they make it. Returns where sums differ. Each part
    /// sees one state of the store: one for all of them would let the WAL grow for as long.
    fn store(
        &mut self,
        store: &Store,
        windows: &[Window],
        time: &future::Time,
    ) -> Result<Differing, StoreError> {
        self.future(store, time)?;
        let hours = self.rollups(store)?;
        let days = self.days(store)?;
        for window in windows {
            let _snapshot = store.snapshot()?;
            self.balances(store, window)?;
        }
        Ok(Differing { hours, days })
    }

    /// Whether roll-ups are what their rows add up to, and rows cost what they should. Returns the hours in
    /// which roll-ups differ.
    fn rollups(&mut self, store: &Store) -> Result<Vec<i64>, StoreError> {
        let (mut hours, mut from) = (Vec::new(), i64::MIN);
        loop {
            let _snapshot = store.snapshot()?;
            // Before that, roll-ups have no rows any more.
            from = from.max(store.rows_from_ms()?.div_euclid(HOUR_MS));
            let Some(hour) = store.next_hour(from)? else { break };
            let (differing, rows) = store.differing(hour)?;
            self.hours += 1;
            self.rows += rows;
            if !differing.is_empty() {
                hours.push(hour);
            }
            for one in differing {
                self.rollup(hour, &one.owner, one.stored.as_ref(), one.recomputed.as_ref());
            }
            self.costs(store, hour)?;
            from = hour.saturating_add(1);
        }
        Ok(hours)
    }

    /// Whether the sums of days are what their folded roll-ups add up to. Returns the days on which they
    /// are not.
    fn days(&mut self, store: &Store) -> Result<Vec<i64>, StoreError> {
        let (mut days, mut from) = (Vec::new(), i64::MIN);
        loop {
            let _snapshot = store.snapshot()?;
            let Some(day) = store.next_day(from)? else { break };
            let differing = store.differing_day(day)?;
            if !differing.is_empty() {
                days.push(day);
            }
            let place = timestamp(day.saturating_mul(DAY_MS)).to_string();
            for one in differing {
                let both = [one.stored, one.recomputed].map(Option::unwrap_or_default);
                self.counts("day", &place, (&one.tenant, &one.key_id), both);
            }
            from = day.saturating_add(1);
        }
        Ok(days)
    }

    /// Whether every row of an hour costs what its price makes of its counts.
    fn costs(&mut self, store: &Store, hour: i64) -> Result<(), StoreError> {
        let from_ms = hour.saturating_mul(HOUR_MS);
        let cost = store.recost(from_ms, from_ms.saturating_add(HOUR_MS), &mut |one| {
            self.add(|| Difference {
                tenant: one.tenant,
                key_id: one.key_id,
                model: one.model,
                ..Difference::plain(
                    "cost",
                    &one.event_id.to_text(),
                    "cost_nano_usd",
                    or_none(one.stored),
                    or_none(one.computed),
                )
            });
        })?;
        self.cost.add(&cost);
        Ok(())
    }

    fn rollup(
        &mut self,
        hour: i64,
        owner: &Owner,
        stored: Option<&Sums>,
        recomputed: Option<&Sums>,
    ) {
        let none = Sums::default();
        let fields = fields(stored.unwrap_or(&none)).into_iter();
        for ((field, stored), (_, recomputed)) in
            fields.zip(self::fields(recomputed.unwrap_or(&none)))
        {
            if stored != recomputed {
                self.add(|| Difference {
                    what: "rollup",
                    place: timestamp(hour.saturating_mul(HOUR_MS)).to_string(),
                    tenant: owner.tenant.clone(),
                    key_id: owner.key_id.clone(),
                    model: owner.model.clone(),
                    field: field.into(),
                    stored,
                    recomputed,
                });
            }
        }
    }

    /// Limits count what these balances say when a server starts.
    fn balances(&mut self, store: &Store, window: &Window) -> Result<(), StoreError> {
        if window.from_ms < store.rows_from_ms()? {
            return Ok(());
        }
        let stored = store.balances(window.from_ms, window.until_ms)?;
        let recomputed = store.balances_of_rows(window.from_ms, window.until_ms)?;
        let mut both: BTreeMap<_, [Counts; 2]> = BTreeMap::new();
        for (at, balances) in [&stored, &recomputed].into_iter().enumerate() {
            for one in balances {
                both.entry((&*one.tenant, &*one.key_id)).or_default()[at] = one.counts();
            }
        }
        for (owner, both) in both {
            self.counts("balance", window.name, owner, both);
        }
        Ok(())
    }

    /// Compares what is stored with what was computed, of a tenant and a key id.
    fn counts(
        &mut self,
        what: &'static str,
        place: &str,
        (tenant, key_id): (&str, &str),
        [stored, recomputed]: [Counts; 2],
    ) {
        for (field, stored, recomputed) in [
            ("requests", stored.requests, recomputed.requests),
            ("total_tokens", stored.total_tokens, recomputed.total_tokens),
            ("nano_usd", stored.nano_usd, recomputed.nano_usd),
        ] {
            if stored != recomputed {
                let (stored, recomputed) = (stored.to_string(), recomputed.to_string());
                self.add(|| Difference {
                    tenant: tenant.to_owned(),
                    key_id: key_id.to_owned(),
                    ..Difference::plain(what, place, field, stored, recomputed)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lock::{DirectoryLock, SERVE};
    use super::*;
    use crate::config::Durability;
    use crate::store::samples::{Sample, store_with};

    #[test]
    fn a_server_may_start_as_soon_as_the_journal_is_replayed() {
        let (dir, store) = store_with(&[Sample::default()]);
        drop(store);
        let (durability, segment_bytes) = (Durability::Crash, 1 << 20);
        let dir_path = dir.path().to_owned();
        let (keep_rows, response_owners) = (None, 1_000);
        let data = Data { dir: dir_path, durability, segment_bytes, keep_rows, response_owners };
        let mut report = Report::default();
        let store = report.begin(&data, 0, &mut |_, _| ()).expect("nobody else is there");
        let _server = DirectoryLock::take(dir.path(), SERVE).expect("it is free again");
        let time = future::Time::of(&store, 0, Mend::default()).expect("reads");
        assert!(report.store(&store, &[], &time).expect("reads").hours.is_empty());
        assert_eq!((report.rows, report.cost.rows), (1, 1));
    }
}
