//! The way to other windows, of another time zone or another clock. With a hundred thousand keys it takes so
//! long that nobody could wait for it: the tenant's account moves at once, and those of keys follow, some at a
//! time. Whoever asks for one that has not followed has it follow first, so that none is ever compared
//! with a quota in the old windows. An account that nobody asks for does not change meanwhile: when it follows
//! makes no difference.

use std::collections::HashSet;
use std::sync::Arc;

use super::TenantState;
use crate::admit::demand::KeySlot;
use crate::admit::denied::Scope;
use crate::admit::quota::Rebuilt;
use crate::admit::window::Windows;
use crate::tenancy::Limits;

/// What the ledger has of a key, or of the whole tenant (`None`).
pub(in crate::admit) type Ledger = Box<dyn Fn(Option<&str>) -> Rebuilt + Send>;

/// Where accounts come from, and where they go.
pub(in crate::admit) struct WindowChange {
    old: Windows,
    new: Windows,
    ledger: Ledger,
    /// The first slot that has not had its turn.
    next: usize,
    /// From there on, those that have followed before their turn.
    ahead: HashSet<KeySlot>,
}

impl std::fmt::Debug for WindowChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowChange").field("next", &self.next).finish_non_exhaustive()
    }
}

impl WindowChange {
    fn has_moved(&self, slot: KeySlot) -> bool {
        slot.0 < self.next || self.ahead.contains(&slot)
    }
}

impl TenantState {
    /// Opens other windows: see `Account::rebase`. Nothing may be on the way to others.
    pub(in crate::admit) fn begin_move(&mut self, new: Windows, ledger: Ledger) {
        let old = std::mem::replace(&mut self.windows, new);
        self.doubted_ms = None;
        self.crossed.start_over(&new);
        self.tenant.enter(&old);
        self.tenant.rebase(&new, &ledger(None));
        self.crossed.change(Scope::Tenant, 0, self.tenant.over(&new));
        let ahead = HashSet::new();
        self.moving = Some(Box::new(WindowChange { old, new, ledger, next: 0, ahead }));
    }

    /// Has `count` more slots follow. When all have, what led them is given back.
    pub(in crate::admit) fn move_some(&mut self, count: usize) -> Option<Box<WindowChange>> {
        let mut moving = self.moving.take()?;
        let end = self.keys.len().min(moving.next.saturating_add(count));
        for slot in (moving.next..end).map(KeySlot) {
            if !moving.ahead.remove(&slot) {
                self.follow(slot, &moving);
            }
        }
        moving.next = end;
        if end == self.keys.len() {
            return Some(moving);
        }
        self.moving = Some(moving);
        None
    }

    /// Whether there may be keys that have not followed.
    pub(in crate::admit) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Has a key follow, if it has not yet: to be called before its balances are asked or changed.
    #[inline]
    pub(in crate::admit) fn catch_up(&mut self, slot: KeySlot) {
        if self.moving.is_some() {
            self.move_ahead(slot);
        }
    }

    #[cold]
    fn move_ahead(&mut self, slot: KeySlot) {
        let Some(mut moving) = self.moving.take() else { return };
        if !moving.has_moved(slot) {
            self.follow(slot, &moving);
            moving.ahead.insert(slot);
        }
        self.moving = Some(moving);
    }

    fn follow(&mut self, slot: KeySlot, moving: &WindowChange) {
        let rebuilt = (moving.ledger)(Some(self.keys.key_id(slot)));
        if rebuilt != Rebuilt::default() {
            self.open(slot, 0);
        }
        let windows = self.windows;
        let Some(account) = self.keys.opened(slot) else { return };
        // Balances of accounts that were idle may still be those of an earlier window.
        account.enter(&moving.old);
        account.rebase(&moving.new, &rebuilt);
        account.enter(&windows);
        self.crossed.change(Scope::Key, 0, account.over(&windows));
    }

    /// A slot for a key, which has nowhere to come from.
    pub(in crate::admit) fn take_slot(&mut self, key_id: Arc<str>, limits: Arc<Limits>) -> KeySlot {
        let slot = self.keys.take(key_id, limits);
        if let Some(moving) = &mut self.moving
            && slot.0 >= moving.next
        {
            moving.ahead.insert(slot);
        }
        slot
    }

    #[cfg(test)]
    pub(in crate::admit) fn has_moved(&self, slot: KeySlot) -> bool {
        self.moving.as_ref().is_none_or(|moving| moving.has_moved(slot))
    }
}
