//! Values that somebody else wrote, and that can't be what they should.

use super::super::super::NewKey;
use super::*;
use crate::store::Store;
use crate::store::samples::{new_key, store_with};

/// What makes a key unreadable, how that is told, and what mends it.
type Mend = fn(&mut Store);
const KEYS: [(&str, &str, Mend); 9] = [
    ("keys SET rpm = -1", "`rpm` is a number out of range", |store| {
        drop(store.set_key("key_1", |key| key.limits.rpm = None));
    }),
    ("keys SET concurrency = 5000000000", "`concurrency` is a number out of range", |store| {
        drop(store.set_key("key_1", |key| key.limits.concurrency = Some(7)));
    }),
    ("keys SET daily_nano_usd = -1", "`daily_nano_usd` is a number out of range", |store| {
        drop(store.set_key("key_1", |key| key.limits.daily_nano_usd = Some(7)));
    }),
    ("keys SET models = '['", "`models` is text that is no list of names in JSON", |store| {
        drop(store.set_key("key_1", |key| key.models = None));
    }),
    ("keys SET models = '[1]'", "`models` is text that is no list of names in JSON", |store| {
        drop(store.set_key("key_1", |key| key.models = Some(vec!["m".to_owned()])));
    }),
    ("keys SET name = CAST(x'ff' AS TEXT)", "`name` is text that is not UTF-8", |store| {
        drop(store.set_key("key_1", |key| key.name = "ci".to_owned()));
    }),
    ("secrets SET digest = x'0011'", "`digest` is bytes of another length", |store| {
        drop(store.rotate_key("key_1", &new_key(9, "").secret, 5, 5));
    }),
    ("secrets SET last4 = CAST(x'ff' AS TEXT)", "`last4` is text that is not UTF-8", |store| {
        drop(store.rotate_key("key_1", &new_key(9, "").secret, 5, 5));
    }),
    // Beyond what a command can give back; see below for those that delete it.
    ("keys SET models = '', tpm = -2", "`tpm` is a number out of range", |store| {
        drop(store.set_key("key_1", |key| {
            (key.models, key.limits.tpm) = (None, None);
        }));
    }),
];

fn damaged(statement: &str) -> (tempfile::TempDir, Store) {
    let (dir, mut store) = store_with(&[]);
    store.create_keys(&[new_key(1, "acme"), new_key(2, "acme")], 1).unwrap();
    let which = if statement.starts_with("secrets") { "key_id" } else { "id" };
    let update = format!("UPDATE {statement} WHERE {which} = 'key_1'");
    store.connection().execute(&update, []).unwrap();
    (dir, store)
}

fn told(unreadable: &[Unreadable]) -> Vec<String> {
    unreadable.iter().map(Unreadable::to_string).collect()
}

#[test]
fn a_key_that_cannot_be_read_is_named_and_mended_and_no_other_is_touched() {
    for (statement, is_told, mend) in KEYS {
        let (_dir, mut store) = damaged(statement);
        let [bad, good] = store.keys().unwrap().try_into().unwrap();
        assert_eq!(told(&bad.unreadable).first().map(String::as_str), Some(is_told), "{statement}");
        assert_eq!((good.unreadable, &*good.id), (vec![], "key_2"), "{statement}");
        // Another change leaves it as it is: no value is made up for it.
        let column = "SELECT (rpm IS -1 OR concurrency IS 5000000000 OR daily_nano_usd IS -1 OR
            models IN ('[', '[1]', '') OR name = CAST(x'ff' AS TEXT) OR
            EXISTS (SELECT 1 FROM secrets WHERE key_id = id
                AND (length(digest) = 2 OR last4 = CAST(x'ff' AS TEXT)))) IS TRUE
            FROM keys WHERE id = 'key_1'";
        let is_there = |store: &Store| {
            store.connection().query_row(column, [], |row| row.get::<_, bool>(0)).unwrap()
        };
        let set = store.set_key("key_1", |key| key.cut = true).unwrap();
        assert!(set.cut && is_there(&store), "{statement}");
        assert_eq!(set.unreadable, bad.unreadable, "{statement}");
        let revoked = store.revoke_key("key_1", 9).unwrap();
        assert_eq!(revoked.revoked_at_ms, Some(9), "{statement}");
        store.connection().execute("UPDATE keys SET revoked_at_ms = NULL", []).unwrap();
        mend(&mut store);
        let mended = store.keys().unwrap().remove(0);
        assert_eq!((mended.unreadable, mended.cut), (vec![], true), "{statement}");
        assert!(!is_there(&store), "{statement}");
    }
}

#[test]
fn a_key_that_cannot_be_read_can_be_deleted_each_way() {
    for (statement, ..) in KEYS {
        let (_dir, mut store) = damaged(statement);
        store.revoke_key("key_1", 9).unwrap();
        assert_eq!(&*store.delete_key("key_1", false, 9).unwrap().id, "key_1", "{statement}");
        let (_dir, mut store) = damaged(statement);
        store.revoke_key("key_1", 9).unwrap();
        assert_eq!(store.delete_ended_keys(9).unwrap().len(), 1, "{statement}");
        let (_dir, mut store) = damaged(statement);
        assert_eq!(store.delete_tenant("acme", true, 9).unwrap().1, 2, "{statement}");
        let secrets = "SELECT count(*) FROM secrets";
        let secrets: u32 = store.connection().query_row(secrets, [], |row| row.get(0)).unwrap();
        assert_eq!(secrets, 0, "{statement}");
    }
}

#[test]
fn a_key_whose_id_is_no_text_goes_with_its_tenant() {
    let (_dir, mut store) = store_with(&[]);
    store.create_keys(&[new_key(1, "acme"), new_key(2, "acme")], 1).unwrap();
    let rename = "PRAGMA foreign_keys = OFF;
        UPDATE keys SET id = CAST(x'6bff' AS TEXT) WHERE id = 'key_1';
        PRAGMA foreign_keys = ON";
    store.connection().execute_batch(rename).unwrap();
    let version = store.keys_version().unwrap();
    let keys = store.keys().unwrap();
    let bad = keys.iter().find(|key| !key.unreadable.is_empty()).unwrap();
    assert_eq!((keys.len(), &*bad.id), (2, "k\u{fffd}"));
    assert_eq!(told(&bad.unreadable), ["`id` is text that is not UTF-8"]);
    assert_eq!(store.delete_tenant("acme", true, 9).unwrap().1, 2);
    let mut deleted = 0;
    let mut count = |_| {
        deleted += 1;
        Ok(())
    };
    store.changes(Some(version)).unwrap().each(&mut count).unwrap();
    assert_eq!(deleted, 2, "the tenant, and the key that has a name");
}

#[test]
fn a_tenant_that_cannot_be_read_is_named_and_mended() {
    let cases: [(&str, &str, Mend); 4] = [
        ("rpm = 5000000000", "`rpm` is a number out of range", |store| {
            drop(store.set_tenant("acme", |tenant| tenant.limits.rpm = Some(5)));
        }),
        ("monthly_tokens = -1", "`monthly_tokens` is a number out of range", |store| {
            drop(store.set_tenant("acme", |tenant| tenant.limits.monthly_tokens = None));
        }),
        ("time_zone = 'Mars'", "`time_zone` is text that names no time zone", |store| {
            drop(store.set_tenant("acme", |tenant| tenant.time_zone = None));
        }),
        ("time_zone = CAST(x'ff' AS TEXT)", "`time_zone` is text that is not UTF-8", |store| {
            drop(store.set_tenant("acme", |tenant| tenant.time_zone = Some("UTC".into())));
        }),
    ];
    for (set, is_told, mend) in cases {
        let (_dir, mut store) = store_with(&[]);
        let keys = [NewKey { cut: true, ..new_key(1, "acme") }, new_key(2, "beta")];
        store.create_keys(&keys, 1).unwrap();
        let update = format!("UPDATE tenants SET {set} WHERE name = 'acme'");
        store.connection().execute(&update, []).unwrap();
        let unreadable = |store: &Store| -> Vec<Vec<String>> {
            store.tenants().unwrap().iter().map(|tenant| told(&tenant.unreadable)).collect()
        };
        assert_eq!(unreadable(&store), [vec![is_told.to_owned()], vec![]], "{set}");
        let other = |tenant: &mut Tenant| tenant.limits.tpm = Some(9);
        let other = store.set_tenant("acme", other).unwrap();
        assert_eq!(told(&other.unreadable), [is_told], "{set}");
        mend(&mut store);
        assert_eq!(unreadable(&store), [vec![], Vec::<String>::new()], "{set}");
        assert_eq!(store.tenants().unwrap()[0].limits.tpm, Some(9), "{set}");
    }
}
