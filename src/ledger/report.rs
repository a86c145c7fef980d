//! Reports: what was used, by tenant, key, model and time, out of the roll-ups.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::timestamp;
use crate::store::{Filter, Store, StoreError, Sums};

/// The last millisecond of an hour, from its begin.
const HOUR_LAST_MS: i64 = 3_599_999;

/// What the lines of a usage report stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Tenant,
    Key,
    Model,
    /// A calendar day in the configured time zone.
    Day,
    /// An hour of UTC, as the roll-ups are kept.
    Hour,
}

/// One line of a usage report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// One text for each group asked for, in the same order.
    pub groups: Vec<String>,
    pub sums: Sums,
}

/// A group's value, in its natural order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Name(String),
    Day(Date),
    HourMs(i64),
}

impl Group {
    pub(crate) const ALL: [Self; 5] = [Self::Tenant, Self::Key, Self::Model, Self::Day, Self::Hour];

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Model => "model",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

/// Sums up what was used, a line for each value of the groups, in their order. Without groups it is
/// one line; without any request, none.
///
/// Days begin at midnight in `zone`, also where that is not at a full hour of UTC.
pub(crate) fn usage(
    store: &Store,
    filter: &Filter,
    by: &[Group],
    zone: &TimeZone,
) -> Result<Vec<Line>, StoreError> {
    let by_day = by.contains(&Group::Day);
    let cut = |begin_ms: i64| {
        by_day && day(begin_ms, zone) != day(begin_ms.saturating_add(HOUR_LAST_MS), zone)
    };
    let mut lines: BTreeMap<Vec<Part>, Sums> = BTreeMap::new();
    let mut days: HashMap<i64, Date> = HashMap::new();
    store.addends(&filter.range(), &cut, &mut |addend| {
        let part = |group: &Group| match group {
            Group::Tenant => Part::Name(addend.tenant.to_owned()),
            Group::Key => Part::Name(addend.key_id.to_owned()),
            Group::Model => Part::Name(addend.model.to_owned()),
            Group::Day => {
                Part::Day(*days.entry(addend.at_ms).or_insert_with(|| day(addend.at_ms, zone)))
            }
            Group::Hour => Part::HourMs(hour_begin(addend.at_ms)),
        };
        lines.entry(by.iter().map(part).collect()).or_default().add(&addend.sums);
    })?;
    let line = |(parts, sums): (Vec<Part>, Sums)| Line {
        groups: parts.iter().map(|part| part.text(zone)).collect(),
        sums,
    };
    Ok(lines.into_iter().map(line).collect())
}

impl Part {
    fn text(&self, zone: &TimeZone) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Day(day) => day.to_string(),
            Self::HourMs(begin_ms) => {
                let begin = timestamp(*begin_ms).to_zoned(zone.clone());
                begin.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
            }
        }
    }
}

/// The begin of an hour; roll-ups are there already, single rows somewhere within.
fn hour_begin(at_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.rem_euclid(HOUR_LAST_MS + 1))
}

fn day(at_ms: i64, zone: &TimeZone) -> Date {
    zone.to_datetime(timestamp(at_ms)).date()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{HOUR_MS, Sample, store_with};
    use crate::usage::UsageSource;

    const DAY_MS: i64 = 24 * HOUR_MS;

    /// Groups, requests and total tokens of a report's lines.
    fn lines(store: &Store, filter: &Filter, by: &[Group], zone: &str) -> Vec<(String, u64, u64)> {
        let zone = TimeZone::get(zone).unwrap();
        let lines = usage(store, filter, by, &zone).unwrap();
        let line = |line: Line| (line.groups.join(" "), line.sums.requests, line.sums.usage.total);
        lines.into_iter().map(line).collect()
    }

    fn expected(lines: &[(&str, u64)]) -> Vec<(String, u64, u64)> {
        lines.iter().map(|(groups, count)| ((*groups).to_owned(), *count, 10 * count)).collect()
    }

    #[test]
    fn lines_are_grouped_filtered_and_in_order() {
        let sample = Sample::default();
        let (_dir, store) = store_with(&[
            sample,
            Sample { id: 2, source: UsageSource::Running, ..sample },
            Sample { id: 3, key: "key_b", model: "m", ..sample },
            Sample { id: 4, key: "key_z", tenant: "aaa", ..sample },
        ]);
        let all = Filter::default();
        for (by, wanted) in [
            (&[][..], &[("", 4)][..]),
            (&[Group::Tenant], &[("aaa", 1), ("acme", 3)]),
            (&[Group::Key], &[("key_a", 2), ("key_b", 1), ("key_z", 1)]),
            (
                &[Group::Model, Group::Tenant],
                &[("gpt-5.4 aaa", 1), ("gpt-5.4 acme", 2), ("m acme", 1)],
            ),
        ] {
            assert_eq!(lines(&store, &all, by, "UTC"), expected(wanted), "{by:?}");
        }
        let narrow = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            lines(&store, &filter, &[Group::Key], "UTC")
        };
        assert_eq!(narrow(|filter| filter.key = Some("key_b".into())), expected(&[("key_b", 1)]));
        assert_eq!(narrow(|filter| filter.tenant = Some("aaa".into())), expected(&[("key_z", 1)]));
        assert_eq!(narrow(|filter| filter.model = Some("m".into())), expected(&[("key_b", 1)]));
        assert_eq!(narrow(|filter| filter.until_ms = Some(100 * HOUR_MS)), []);
        assert_eq!(narrow(|filter| filter.since_ms = Some(100 * HOUR_MS + 1)), []);
        let estimated = usage(&store, &all, &[], &TimeZone::UTC).unwrap()[0].sums;
        assert_eq!((estimated.estimated_requests, estimated.cost_nano_usd), (1, None));
    }

    #[test]
    fn days_begin_at_midnight_of_the_zone_to_the_millisecond() {
        // Midnight of 2 January in three zones: east by half an hour more, west, and UTC.
        for (zone, offset_ms) in [
            ("Asia/Kolkata", 19_800_000),
            ("America/St_Johns", -12_600_000),
            ("Australia/Eucla", 31_500_000),
            ("UTC", 0),
        ] {
            let midnight_ms = 20_454 * DAY_MS - offset_ms; // 2026-01-01
            let (first, last) = (midnight_ms, midnight_ms + DAY_MS - 1);
            let at = |id, at_ms| Sample { id, at_ms, ..Sample::default() };
            let (_dir, store) =
                store_with(&[at(1, first - 1), at(2, first), at(3, last), at(4, last + 1)]);
            let days = lines(&store, &Filter::default(), &[Group::Day], zone);
            let wanted = [("2025-12-31", 1), ("2026-01-01", 2), ("2026-01-02", 1)];
            assert_eq!(days, expected(&wanted), "{zone}");
        }
    }

    #[test]
    fn hours_are_those_of_utc_shown_in_the_zone_and_in_order() {
        // The hour that comes twice when summer time ends: 25 October 2026, 03:00 CEST is 02:00 CET.
        let change_ms = 1_792_890_000_000;
        let at = |id, at_ms| Sample { id, at_ms, ..Sample::default() };
        let (_dir, store) =
            store_with(&[at(1, change_ms - 1), at(2, change_ms), at(3, change_ms + 1)]);
        let hours = lines(&store, &Filter::default(), &[Group::Hour], "Europe/Berlin");
        let wanted = [("2026-10-25T02:00:00+02:00", 1), ("2026-10-25T02:00:00+01:00", 2)];
        assert_eq!(hours, expected(&wanted));
        // Where the range cuts the hour, the row still belongs to its hour.
        let filter = Filter { since_ms: Some(change_ms + 1), ..Filter::default() };
        let hours = lines(&store, &filter, &[Group::Hour], "Asia/Kolkata");
        assert_eq!(hours, expected(&[("2026-10-25T06:30:00+05:30", 1)]));
    }

    #[test]
    fn moments_beyond_the_calendar_are_reported_all_the_same() {
        let at = |id, at_ms| Sample { id, at_ms, ..Sample::default() };
        let (_dir, store) = store_with(&[at(1, i64::MAX - 1), at(2, i64::MIN)]);
        for by in [Group::Day, Group::Hour] {
            assert_eq!(lines(&store, &Filter::default(), &[by], "Asia/Kolkata").len(), 2);
        }
    }
}
