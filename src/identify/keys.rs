//! All keys by digest, as one value that never changes: whoever reads it sees one version. A new version
//! shares with the one before whatever is the same, so that a change costs what changed, however many keys
//! there are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::{Digest, Entry};

/// What is copied for a change is this part of all keys. With a million of them that is a thousand, and
/// so many are the shards, which are counted up and down for each version.
const SHARDS: usize = 1024;

type Shard<T> = HashMap<Digest, Entry<T>, BuildHasherDefault<DigestHasher>>;

/// All keys of one version, each with what the gateway keeps for it.
#[derive(Clone, Debug)]
pub(crate) struct Keys<T> {
    shards: Box<[Arc<Shard<T>>]>,
}

/// The next version on its way.
#[derive(Debug)]
pub(crate) struct KeysEdit<T> {
    next: Keys<T>,
    copied: usize,
}

/// A digest is as random as any hash of it.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    /// The last eight bytes: the first ones say which shard it is.
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T> Default for Keys<T> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS].into() }
    }
}

impl<T> Keys<T> {
    /// How many secrets there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    #[inline]
    pub(crate) fn get(&self, digest: &Digest) -> Option<&Entry<T>> {
        self.shards[shard_of(digest)].get(digest)
    }
}

impl<T: Clone> Keys<T> {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Digest, Entry<T>)>) -> Self {
        let mut edit = Self::default().edit();
        entries.into_iter().for_each(|(digest, entry)| edit.insert(digest, entry));
        edit.finish()
    }

    /// Begins a version that is to follow this one.
    pub(crate) fn edit(&self) -> KeysEdit<T> {
        KeysEdit { next: self.clone(), copied: 0 }
    }
}

impl<T: Clone> KeysEdit<T> {
    /// Adds a secret, or replaces what was known of it.
    pub(crate) fn insert(&mut self, digest: Digest, entry: Entry<T>) {
        self.shard(&digest).insert(digest, entry);
    }

    /// Removes a secret, if it `is_it`: by now it may be another key's.
    pub(crate) fn remove(&mut self, digest: &Digest, is_it: impl FnOnce(&T) -> bool) {
        if self.next.get(digest).is_some_and(|entry| is_it(&entry.identity)) {
            self.shard(digest).remove(digest);
        }
    }

    /// How many shards were copied for it so far.
    pub(crate) fn copied(&self) -> usize {
        self.copied
    }

    pub(crate) fn finish(self) -> Keys<T> {
        self.next
    }

    /// The shard of a digest, its own copy of this version.
    fn shard(&mut self, digest: &Digest) -> &mut Shard<T> {
        let shard = &mut self.next.shards[shard_of(digest)];
        if Arc::get_mut(shard).is_none() {
            self.copied += 1;
        }
        Arc::make_mut(shard)
    }
}

#[inline]
fn shard_of(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests as SHA-256 makes them: every byte of each looks random.
    fn digest(number: u64) -> Digest {
        use sha2::Digest as _;
        sha2::Sha256::digest(number.to_le_bytes()).into()
    }

    fn entry(identity: u64) -> Entry<u64> {
        Entry { identity, is_revoked: false, expires_at_ms: None }
    }

    fn found(keys: &Keys<u64>, number: u64) -> Option<u64> {
        keys.get(&digest(number)).map(|entry| entry.identity)
    }

    #[test]
    fn a_version_stays_what_it_was_while_the_next_ones_follow() {
        let first = Keys::new((0..20_000).map(|number| (digest(number), entry(number))));
        let mut edit = first.edit();
        assert_eq!(edit.copied(), 0);
        edit.insert(digest(7), entry(70));
        edit.insert(digest(7), entry(71));
        edit.insert(digest(20_000), entry(20_000));
        edit.remove(&digest(8), |identity| *identity == 8);
        // It is somebody else's, or nobody's.
        edit.remove(&digest(9), |identity| *identity == 8);
        edit.remove(&digest(30_000), |_| true);
        let shards: std::collections::BTreeSet<_> =
            [7, 8, 20_000].map(|number| shard_of(&digest(number))).into();
        assert_eq!(edit.copied(), shards.len(), "each shard that changed, once");
        let second = edit.finish();
        for number in 0..=20_001 {
            let is_there = number < 20_000;
            assert_eq!(found(&first, number), is_there.then_some(number));
            let expected = match number {
                7 => Some(71),
                8 | 20_001 => None,
                other => Some(other),
            };
            assert_eq!(found(&second, number), expected, "{number}");
        }
        let is_same = |at: &usize| Arc::ptr_eq(&first.shards[*at], &second.shards[*at]);
        assert_eq!((0..SHARDS).filter(is_same).count(), SHARDS - shards.len());
    }

    #[test]
    fn keys_spread_evenly_over_shards_and_within_them() {
        let keys = Keys::new((0..100_000).map(|number| (digest(number), entry(number))));
        let sizes = keys.shards.iter().map(|shard| shard.len());
        let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
        assert!(least > 50 && most < 150, "{least} to {most} of 98 on the average");
        let hash = |number: &u64| {
            let mut hasher = DigestHasher::default();
            std::hash::Hash::hash(&digest(*number), &mut hasher);
            hasher.finish()
        };
        let hashes: std::collections::BTreeSet<_> = (0..1_000).map(|n| hash(&n)).collect();
        assert_eq!(hashes.len(), 1_000);
    }
}
