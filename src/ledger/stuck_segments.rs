//! Segments of the journal that are done with and cannot be removed: their rows are stored and nothing is lost, but
//! the disk fills up, so a person has to hear of it.

use std::io::ErrorKind;

use crate::clock::Clock;
use crate::ledger::drain::Unremoved;
use crate::telemetry::log_throttle::LogThrottle;

/// Tells of a cause when it begins, then once a minute, and when there is none any more.
#[derive(Debug)]
pub(super) struct StuckSegments {
    clock: Clock,
    /// Why segments remain now, as far as errors tell causes apart, and the line about it.
    cause: Option<(ErrorKind, LogThrottle)>,
}

impl StuckSegments {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), cause: None }
    }

    /// Takes what the drain could not remove, and hands on how many segments those are.
    pub(super) fn look(&mut self, unremoved: Option<&Unremoved>) -> u64 {
        let Some(Unremoved { path, source, segments }) = unremoved else {
            if self.cause.take().is_some() {
                tracing::info!("segments of the journal can be removed again");
            }
            return 0;
        };
        let known = self.cause.take().filter(|(kind, _)| *kind == source.kind());
        let cause = known.unwrap_or_else(|| (source.kind(), LogThrottle::new(self.clock.clone())));
        if self.cause.insert(cause).1.allow().is_some() {
            tracing::error!(
                segments,
                segment = %path.display(),
                error = %source,
                "segments of the journal cannot be removed; their rows are stored and nothing is lost, but the \
                 disk fills up: let this process write to the directory and its files"
            );
        }
        *segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::tests::logged;

    #[test]
    fn each_cause_is_told_once_and_then_once_a_minute_and_its_end_as_well() {
        let (clock, hand) = Clock::manual(0);
        let mut remains = StuckSegments::new(&clock);
        let (denied, busy) = (ErrorKind::PermissionDenied, ErrorKind::ResourceBusy);
        for (after_ms, found, told) in [
            (0, None, None),
            (0, Some((denied, 1)), Some("segments=1")),
            (59_999, Some((denied, 2)), None),
            (1, Some((denied, 3)), Some("segments=3")),
            (1_000, Some((busy, 3)), Some("segments=3")),
            (1_000, Some((busy, 3)), None),
            (1_000, None, Some("can be removed again")),
            (1_000, None, None),
            (1_000, Some((busy, 4)), Some("segments=4")),
        ] {
            hand.advance_ms(after_ms);
            let found = found.map(|(kind, segments)| Unremoved {
                path: "journal/1.wj".into(),
                source: kind.into(),
                segments,
            });
            let expected = found.as_ref().map_or(0, |found| found.segments);
            let said = logged(|| assert_eq!(remains.look(found.as_ref()), expected));
            assert_eq!(said.lines().count(), usize::from(told.is_some()), "{said}");
            assert!(told.is_none_or(|told| said.contains(told)), "{told:?}: {said}");
        }
    }
}
