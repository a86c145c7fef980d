//! Reading a journal that nobody writes to, before a server takes requests or a command reports.

use std::time::{Duration, Instant};

use super::error::Unread;
use super::unreadable::RETRY_EVERY;
use super::{Drain, DrainError, Progress, unreadable};
use crate::journal::disk::Disk;
use crate::ledger::waiting_for::WaitingFor;
use crate::record::{Closed, Row};
use crate::wait_notice::WaitNotice;

impl<D: Disk> Drain<D> {
    /// At start, when nobody writes: what is open then was cut off by a crash, and becomes a row.
    pub(crate) fn replay(&mut self) -> Result<Progress, DrainError> {
        self.replay_telling(&mut |_, _| ())
    }

    /// The same, for whoever wants to hear how long a disk is waited for.
    pub(crate) fn replay_telling(
        &mut self,
        tell: &mut dyn FnMut(&WaitingFor, Duration),
    ) -> Result<Progress, DrainError> {
        let mut total = self.read_all(tell)?;
        let crashed = std::mem::take(&mut self.open);
        let prices = self.store.price_versions()?;
        for (segment, mut opened) in crashed.into_values() {
            if let Some(cursor) = self.cursors.get_mut(&segment) {
                cursor.open -= 1;
            }
            let mut closed = Closed::crashed(&opened);
            prices.charge(&mut opened, &mut closed);
            self.rows.push(Row { opened, closed });
        }
        self.progress = Progress::default();
        self.store_rows(1)?;
        self.remove_finished()?;
        self.require_removed()?;
        total.add(self.progress);
        Ok(total)
    }

    /// Passes until every segment has been read to its end, or what cannot be read is given up: only then a
    /// request without an end has none.
    fn read_all(
        &mut self,
        tell: &mut dyn FnMut(&WaitingFor, Duration),
    ) -> Result<Progress, DrainError> {
        let (begun, mut total) = (Instant::now(), Progress::default());
        let mut notice = WaitNotice::default();
        loop {
            self.now = begun.elapsed();
            self.pass()?;
            self.require_removed()?;
            total.add(self.progress);
            let Some(Unread { path, source }) = self.unread.take() else { break };
            if !unreadable::is_lost(&source) {
                return Err(DrainError::Read { path, source });
            }
            if notice.is_due(self.now) {
                tell(&WaitingFor::Disk { segment: path, error: source.to_string() }, self.now);
            }
            std::thread::park_timeout(RETRY_EVERY.min(self.patience));
        }
        Ok(Progress { unread: 0, ..total })
    }
}
