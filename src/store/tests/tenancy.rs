//! Tenants and keys.

use std::collections::HashMap;

use super::super::samples::{self, store_with};
use super::super::{NewKey, StoreError, Switched};
use crate::tenancy::{Key, Limits, Secret, Tenant};

pub(in crate::store) fn secret(byte: u8) -> Secret {
    Secret { digest: [byte; 32], last4: format!("000{byte}"), expires_at_ms: None }
}

pub(in crate::store) fn new_key(id: &str) -> NewKey {
    NewKey {
        id: id.into(),
        tenant: "acme".into(),
        name: "ci, \"quoted\"".to_owned(),
        limits: Limits {
            rpm: Some(u32::MAX),
            tpm: Some(i64::MAX as u64),
            concurrency: Some(1),
            daily_tokens: Some(2),
            monthly_tokens: Some(3),
            daily_requests: Some(4),
            monthly_requests: None,
            daily_nano_usd: Some(5),
            monthly_nano_usd: Some(i64::MAX as u64),
        },
        clamp: true,
        cut: false,
        models: Some(vec!["a".to_owned(), "b \"c\"".to_owned()]),
        expires_at_ms: Some(99),
        secret: secret(1),
    }
}

#[test]
fn keys_and_tenants_come_back_as_they_were_given() {
    let (_dir, mut store) = store_with(&[]);
    let limits = Limits { monthly_requests: Some(7), ..Limits::default() };
    store.create_tenant("beta", &limits, Some("Asia/Kolkata"), 5).unwrap();
    let error = store.create_tenant("beta", &Limits::default(), None, 6).unwrap_err();
    assert!(matches!(&error, StoreError::TenantExists(name) if name == "beta"), "{error}");
    assert!(store.create_key(&new_key("key_1"), 10).unwrap());
    let mut plain = NewKey { models: None, expires_at_ms: None, ..new_key("key_2") };
    (plain.clamp, plain.cut) = (false, true);
    plain.secret = secret(2);
    assert!(!store.create_key(&plain, 11).unwrap());

    let reader = store.another().unwrap();
    let tenant = |name: &str, limits, zone: Option<&str>, created_at_ms| Tenant {
        name: name.into(),
        limits,
        time_zone: zone.map(Into::into),
        created_at_ms,
        unreadable: Vec::new(),
    };
    let expected = [
        tenant("acme", Limits::default(), None, 10),
        tenant("beta", limits, Some("Asia/Kolkata"), 5),
    ];
    assert_eq!(reader.tenants().unwrap(), expected);
    let key = |new: &NewKey, created_at_ms| Key {
        id: new.id.clone(),
        tenant: new.tenant.clone(),
        name: new.name.clone(),
        limits: new.limits.clone(),
        clamp: new.clamp,
        cut: new.cut,
        models: new.models.clone(),
        created_at_ms,
        expires_at_ms: new.expires_at_ms,
        suspended_at_ms: None,
        revoked_at_ms: None,
        secrets: vec![new.secret.clone()],
        unreadable: Vec::new(),
    };
    assert_eq!(reader.keys().unwrap(), [key(&new_key("key_1"), 10), key(&plain, 11)]);
}

#[test]
fn a_key_that_can_not_be_made_leaves_no_tenant() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&new_key("key_1"), 10).unwrap();
    let again = NewKey { tenant: "other".into(), ..new_key("key_2") };
    assert!(matches!(store.create_key(&again, 11), Err(StoreError::Failed { .. })));
    assert_eq!((store.tenants().unwrap().len(), store.keys().unwrap().len()), (1, 1));
}

#[test]
fn every_change_raises_the_version_and_reading_does_not() {
    let (_dir, mut store) = store_with(&[]);
    let reader = store.another().unwrap();
    let mut last = reader.keys_version().unwrap().number;
    let mut raised = |what: &str, changes: bool| {
        let version = reader.keys_version().unwrap().number;
        assert_eq!(version > last, changes, "{what}");
        last = version;
    };
    store.create_tenant("acme", &Limits::default(), None, 1).unwrap();
    raised("create tenant", true);
    store.set_tenant("acme", |tenant| tenant.limits.rpm = Some(1)).unwrap();
    raised("set tenant", true);
    store.create_key(&new_key("key_1"), 2).unwrap();
    raised("create key", true);
    store.set_key("key_1", |key| key.name.clear()).unwrap();
    raised("set key", true);
    store.rotate_key("key_1", &secret(2), 50, 3).unwrap();
    raised("rotate", true);
    store.suspend_key("key_1", 4).unwrap();
    raised("suspend", true);
    store.resume_key("key_1").unwrap();
    raised("resume", true);
    store.revoke_key("key_1", 4).unwrap();
    raised("revoke", true);
    store.keys().unwrap();
    store.changes(None).unwrap().each(&mut |_| Ok(())).unwrap();
    store.append(&[crate::store::samples::Sample::default().row()], &[]).unwrap();
    raised("read and append", false);
}

#[test]
fn a_change_touches_only_what_it_names() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&new_key("key_1"), 10).unwrap();
    let mut expected = store.keys().unwrap().remove(0);
    let changed = store.set_key("key_1", |key| {
        key.limits.rpm = None;
        key.models = None;
        (key.clamp, key.cut) = (false, true);
        key.tenant = "stolen".into();
    });
    changed.unwrap();
    expected.limits.rpm = None;
    expected.models = None;
    (expected.clamp, expected.cut) = (false, true);
    assert_eq!(store.keys().unwrap(), [expected]);

    let limits = Limits { tpm: Some(5), ..Limits::default() };
    store.create_tenant("beta", &limits, None, 1).unwrap();
    let tenant = store.set_tenant("beta", |tenant| {
        tenant.limits.rpm = Some(6);
        tenant.time_zone = Some("Europe/Berlin".into());
    });
    let tenant = tenant.unwrap();
    let both = Limits { rpm: Some(6), tpm: Some(5), ..Limits::default() };
    assert_eq!(tenant.limits, both);
    assert_eq!(store.tenants().unwrap()[1], tenant);
    assert_eq!(store.tenants().unwrap()[0].limits, Limits::default());
}

#[test]
fn a_rotation_keeps_the_old_secret_until_its_end() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&new_key("key_1"), 0).unwrap();
    let old = |byte, end| Secret { expires_at_ms: Some(end), ..secret(byte) };
    let key = store.rotate_key("key_1", &secret(2), 100, 10).unwrap();
    assert_eq!(key.secrets, [secret(2), old(1, 100)]);
    // A second rotation within the overlap never makes the oldest live longer.
    let key = store.rotate_key("key_1", &secret(3), 200, 50).unwrap();
    assert_eq!(key.secrets, [secret(3), old(2, 200), old(1, 100)]);
    // What has ended goes.
    let key = store.rotate_key("key_1", &secret(4), 300, 100).unwrap();
    assert_eq!(key.secrets, [secret(4), old(3, 300), old(2, 200)]);
    // Without overlap only the new one is left.
    let key = store.rotate_key("key_1", &secret(5), 150, 150).unwrap();
    assert_eq!(key.secrets, [secret(5)]);
    assert_eq!(store.keys().unwrap(), [key]);
}

#[test]
fn a_rotation_by_a_clock_that_is_ahead_removes_no_secret_for_good() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&new_key("key_1"), 0).unwrap();
    store.confirm(None, 60).unwrap();
    store.rotate_key("key_1", &secret(2), 50, 10).unwrap();
    store.rotate_key("key_1", &secret(3), 100, 20).unwrap();
    let ends = |key: Key| -> Vec<_> { key.secrets.iter().map(|one| one.expires_at_ms).collect() };
    let key = store.rotate_key("key_1", &secret(4), 9_010, 9_000).unwrap();
    assert_eq!(ends(key), [None, Some(9_010), Some(100)], "the first had ended for sure");
    let key = store.rotate_key("key_1", &secret(5), 9_000, 9_000).unwrap();
    assert_eq!(ends(key), [None], "without overlap all end at once");
}

#[test]
fn a_revoked_key_stays_revoked() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&new_key("key_1"), 0).unwrap();
    assert_eq!(store.revoke_key("key_1", 5).unwrap().revoked_at_ms, Some(5));
    assert_eq!(store.revoke_key("key_1", 9).unwrap().revoked_at_ms, Some(5));
    let error = store.rotate_key("key_1", &secret(2), 10, 10).unwrap_err();
    assert!(matches!(error, StoreError::Revoked(_)), "{error}");
    assert_eq!(store.keys().unwrap()[0].secrets, [secret(1)]);
}

#[test]
fn what_is_unknown_is_an_error_that_says_what_to_do() {
    let (_dir, mut store) = store_with(&[]);
    let next = "no key `key_x`; `weir key list` shows them";
    assert_eq!(store.set_key("key_x", |_| ()).unwrap_err().to_string(), next);
    assert_eq!(store.revoke_key("key_x", 1).unwrap_err().to_string(), next);
    let error = store.rotate_key("key_x", &secret(1), 1, 1).unwrap_err();
    assert_eq!(error.to_string(), next);
    let error = store.set_tenant("x", |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "no tenant `x`; `weir tenant list` shows them");
}

#[test]
fn names_are_found_by_id() {
    let (_dir, mut store) = store_with(&[]);
    for (number, name) in [(1, "ci"), (2, "")] {
        let new = NewKey { name: name.to_owned(), ..samples::new_key(number, "acme") };
        store.create_key(&new, 1).unwrap();
    }
    let names = store.key_names(&["key_1", "key_2", "key_3", "key_1"]).unwrap();
    assert_eq!(names, HashMap::from([("key_1", "ci".to_owned())]));
}

#[test]
fn a_key_is_suspended_once_resumed_as_it_was_and_revoked_for_good() {
    let (_dir, mut store) = store_with(&[]);
    store.create_key(&samples::new_key(1, "acme"), 1).unwrap();
    let before = store.keys().unwrap();
    let since = |it: Switched| (it.before.suspended_at_ms, it.key.suspended_at_ms);
    assert_eq!(since(store.suspend_key("key_1", 5).unwrap()), (None, Some(5)));
    assert_eq!(since(store.suspend_key("key_1", 9).unwrap()), (Some(5), Some(5)));
    assert_eq!(since(store.resume_key("key_1").unwrap()), (Some(5), None));
    assert_eq!(since(store.resume_key("key_1").unwrap()), (None, None));
    assert_eq!(store.keys().unwrap(), before);
    store.revoke_key("key_1", 10).unwrap();
    for refused in [store.suspend_key("key_1", 11), store.resume_key("key_1")] {
        assert!(matches!(refused, Err(StoreError::Revoked(_))), "{refused:?}");
    }
    assert!(matches!(store.resume_key("key_2"), Err(StoreError::UnknownKey(_))));
}

#[test]
fn a_clock_that_is_ahead_takes_no_live_key_away() {
    let (_dir, mut store) = store_with(&[]);
    for number in [1, 2] {
        let new = NewKey { expires_at_ms: Some(50), ..samples::new_key(number, "acme") };
        store.create_key(&new, 1).unwrap();
    }
    store.confirm(None, 49).unwrap();
    assert!(matches!(store.delete_key("key_1", false, 99), Err(StoreError::KeyAlive(_))));
    let error = store.delete_tenant("acme", false, 99).unwrap_err();
    assert!(matches!(error, StoreError::TenantInUse { keys: 2, .. }), "{error}");
    // What was revoked is dead whatever the time.
    store.revoke_key("key_1", 98).unwrap();
    store.delete_key("key_1", false, 97).unwrap();
    store.confirm(Some(49), 50).unwrap();
    assert_eq!(store.delete_tenant("acme", false, 99).unwrap().1, 1);
}
