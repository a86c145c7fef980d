//! What is said when a key is changed that opens nothing: the change alone would look as if it worked.

use super::super::output::note;
use super::super::time_args::rfc3339;
use crate::tenancy::Key;

/// Tells why a key that was just changed opens nothing, if that is so.
pub(super) fn note_closed(key: &Key, now_ms: i64) {
    reasons(key, now_ms).iter().for_each(|said| note(said));
}

/// Every reason, each with what is to be done. A revoked key needs no other.
fn reasons(key: &Key, now_ms: i64) -> Vec<String> {
    let id = &key.id;
    if let Some(since_ms) = key.revoked_at_ms {
        let since = rfc3339(since_ms);
        return vec![format!(
            "key `{id}` is revoked, since {since}, and stays so: nothing opens it; `weir key create` makes a new one"
        )];
    }
    let expired = key.expires_at_ms.filter(|end_ms| *end_ms <= now_ms).map(|end_ms| {
        let end = rfc3339(end_ms);
        format!("key `{id}` expired at {end}: nothing opens it; `weir key set {id} --expires TIME` changes that")
    });
    let suspended = key.suspended_at_ms.map(|since_ms| {
        let since = rfc3339(since_ms);
        format!(
            "key `{id}` is suspended, since {since}: nothing opens it until `weir key resume {id}`"
        )
    });
    expired.into_iter().chain(suspended).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{new_key, store_with};

    #[test]
    fn a_key_that_opens_nothing_says_why_and_what_to_do() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key(1, "acme"), 1).unwrap();
        let key = store.keys().unwrap().remove(0);
        let now_ms = 86_400_000;
        let expired = "key `key_1` expired at 1970-01-02T00:00:00Z: nothing opens it; \
            `weir key set key_1 --expires TIME` changes that";
        let suspended = "key `key_1` is suspended, since 1970-01-01T00:00:01Z: nothing opens it until \
            `weir key resume key_1`";
        let revoked = "key `key_1` is revoked, since 1970-01-01T00:00:02Z, and stays so: nothing opens it; \
            `weir key create` makes a new one";
        let (past, later) = (Some(now_ms), Some(now_ms + 1));
        for (expires_at_ms, suspended_at_ms, revoked_at_ms, expected) in [
            (None, None, None, &[][..]),
            (later, None, None, &[]),
            (past, None, None, &[expired]),
            (later, Some(1_000), None, &[suspended]),
            (past, Some(1_000), None, &[expired, suspended]),
            (past, Some(1_000), Some(2_000), &[revoked]),
        ] {
            let key = Key { expires_at_ms, suspended_at_ms, revoked_at_ms, ..key.clone() };
            assert_eq!(reasons(&key, now_ms), expected);
        }
    }
}
