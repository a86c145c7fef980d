//! The accounts of a tenant's keys, by slot. A key that has not asked yet has only a name and its limits
//! here, for of a hundred thousand keys most are idle; its account is opened when it first asks. The slot
//! of a key that is gone is given to another one, once nothing of the old one can come back to it.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::account::Account;
use super::demand::KeySlot;
use crate::tenancy::Limits;

/// All keys of a tenant.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    /// Of no key now.
    free: Vec<KeySlot>,
}

#[derive(Debug)]
struct Slot {
    key_id: Arc<str>,
    limits: Arc<Limits>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    account: Account,
    /// The key is gone; the last of its requests in flight frees the slot.
    is_left: bool,
}

const OPENED: &str = "whoever asks for a key has its account opened first";

impl Slots {
    /// A slot for a key.
    pub(super) fn take(&mut self, key_id: Arc<str>, limits: Arc<Limits>) -> KeySlot {
        let taken = Slot { key_id, limits, open: None };
        if let Some(slot) = self.free.pop() {
            self.all[slot.0] = taken;
            return slot;
        }
        self.all.push(taken);
        KeySlot(self.all.len() - 1)
    }

    pub(super) fn key_id(&self, slot: KeySlot) -> &Arc<str> {
        &self.all[slot.0].key_id
    }

    /// Opens the account of a key, if it is not.
    #[inline]
    pub(super) fn open(&mut self, slot: KeySlot, make: impl FnOnce(&Limits) -> Account) {
        let Slot { limits, open, .. } = &mut self.all[slot.0];
        if open.is_none() {
            *open = Some(Box::new(Open { account: make(limits), is_left: false }));
        }
    }

    /// The account of a key, if it has been opened.
    pub(super) fn opened(&mut self, slot: KeySlot) -> Option<&mut Account> {
        self.all[slot.0].open.as_mut().map(|open| &mut open.account)
    }

    pub(super) fn limits(&self, slot: KeySlot) -> &Limits {
        &self.all[slot.0].limits
    }

    pub(super) fn set_limits(&mut self, slot: KeySlot, limits: Arc<Limits>) {
        self.all[slot.0].limits = limits;
    }

    /// The key is gone. True if nothing of it is in flight, so that its slot can be freed.
    pub(super) fn leave(&mut self, slot: KeySlot) -> bool {
        let open = self.all[slot.0].open.as_mut();
        open.is_none_or(|open| {
            open.is_left = true;
            open.account.is_idle()
        })
    }

    /// Whether it is the slot of a key that is gone, and nothing of it is in flight any more.
    #[inline]
    pub(super) fn is_done(&self, slot: KeySlot) -> bool {
        let open = &self.all[slot.0].open;
        open.as_ref().is_some_and(|open| open.is_left && open.account.is_idle())
    }

    /// Makes it the slot of no key.
    pub(super) fn free(&mut self, slot: KeySlot) {
        self.all[slot.0] = Slot { key_id: "".into(), limits: Arc::default(), open: None };
        self.free.push(slot);
    }

    /// How many slots there are, those too that are free.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many keys have a slot, and how many of them an account.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let opened = self.all.iter().filter(|slot| slot.open.is_some()).count();
        (self.all.len() - self.free.len(), opened)
    }
}

impl Index<KeySlot> for Slots {
    type Output = Account;

    #[inline]
    fn index(&self, slot: KeySlot) -> &Account {
        &self.all[slot.0].open.as_ref().expect(OPENED).account
    }
}

impl IndexMut<KeySlot> for Slots {
    #[inline]
    fn index_mut(&mut self, slot: KeySlot) -> &mut Account {
        &mut self.all[slot.0].open.as_mut().expect(OPENED).account
    }
}
