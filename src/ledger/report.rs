//! Reports: what was used, by tenant, key, model and time, out of the roll-ups; and single requests,
//! newest first.

mod requests;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub(crate) use requests::{Request, requests};

use super::store::{Range, Store, StoreError, Sums};

/// The last millisecond of an hour, from its begin.
const HOUR_LAST_MS: i64 = 3_599_999;

/// Which requests a report is about; what is not given does not narrow it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub tenant: Option<String>,
    /// A key's id.
    pub key: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Requests that began then or later, in milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Requests that began before then.
    pub until_ms: Option<i64>,
}

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

impl Filter {
    /// The filter as a half-open range of time, open ends closed.
    pub(super) fn range(&self) -> Range<'_> {
        Range {
            from_ms: self.since_ms.unwrap_or(i64::MIN),
            until_ms: self.until_ms.unwrap_or(i64::MAX),
            key: self.key.as_deref(),
            tenant: self.tenant.as_deref(),
            model: self.model.as_deref(),
        }
    }
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
    store.addends(&filter.range(), cut, |addend| {
        let part = |group: &Group| match group {
            Group::Tenant => Part::Name(addend.tenant.to_owned()),
            Group::Key => Part::Name(addend.key_id.to_owned()),
            Group::Model => Part::Name(addend.model.to_owned()),
            Group::Day => {
                Part::Day(*days.entry(addend.at_ms).or_insert_with(|| day(addend.at_ms, zone)))
            }
            Group::Hour => Part::HourMs(addend.at_ms - addend.at_ms.rem_euclid(HOUR_LAST_MS + 1)),
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

/// Billionths of a dollar as a decimal number of dollars, without trailing zeros.
pub(crate) fn usd(nano_usd: i64) -> String {
    const NANO: u64 = 1_000_000_000;
    let sign = if nano_usd < 0 { "-" } else { "" };
    let (whole, rest) = (nano_usd.unsigned_abs() / NANO, nano_usd.unsigned_abs() % NANO);
    let text = format!("{sign}{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment from milliseconds since the epoch; one that no calendar has becomes the nearest.
fn timestamp(at_ms: i64) -> Timestamp {
    let nearest = if at_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at_ms).unwrap_or(nearest)
}

fn day(at_ms: i64, zone: &TimeZone) -> Date {
    zone.to_datetime(timestamp(at_ms)).date()
}
