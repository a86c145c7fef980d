//! Tenants and keys of which a value can't be read, for somebody else wrote it: which they are, and what mends
//! them. They stand in no list, for what they allow nobody can say.

use crate::tenancy::{Key, Tenant, Unreadable};

use super::output::note;

/// Names what of a key can't be read. True if there is something.
pub(crate) fn note_unreadable_key(key: &Key) -> bool {
    key.unreadable.iter().for_each(|one| note(&of_key(&key.id, one)));
    !key.unreadable.is_empty()
}

/// Names what of a tenant can't be read. True if there is something.
pub(crate) fn note_unreadable_tenant(tenant: &Tenant) -> bool {
    tenant.unreadable.iter().for_each(|one| note(&of_tenant(&tenant.name, one)));
    !tenant.unreadable.is_empty()
}

fn of_key(id: &str, one: &Unreadable) -> String {
    let mend = match &*one.column {
        "id" => "`weir tenant delete` deletes it with its tenant".to_owned(),
        "tenant" => format!("`weir key delete {id} --force` deletes it"),
        "digest" | "last4" => format!("`weir key rotate {id} --overlap 0s` mends it"),
        "suspended_at_ms" => format!("`weir key resume {id}` mends it, or `suspend`"),
        "name" => format!("`weir key set {id} --name NAME` mends it"),
        "models" => format!("`weir key set {id} --models A,B` mends it, or `all`"),
        limit => format!("`weir key set {id} --{} N` mends it, or `none`", option(limit)),
    };
    format!("key `{id}` is refused, for it can't be read: {one}; {mend}")
}

fn of_tenant(name: &str, one: &Unreadable) -> String {
    let mend = match &*one.column {
        "name" => "only SQL can delete it".to_owned(),
        "time_zone" => format!("`weir tenant set {name} --time-zone ZONE` mends it, or `none`"),
        limit => format!("`weir tenant set {name} --{} N` mends it, or `none`", option(limit)),
    };
    format!("all keys of tenant `{name}` are refused, for it can't be read: {one}; {mend}")
}

/// The option that sets a column of a limit.
fn option(column: &str) -> String {
    column.replace("nano_usd", "usd").replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_with_what_mends_it() {
        let one = |column: &str| Unreadable { column: column.to_owned(), found: "odd" };
        for (column, mend) in [
            ("rpm", "`weir key set key_1 --rpm N`"),
            ("daily_nano_usd", "`weir key set key_1 --daily-usd N`"),
            ("models", "`weir key set key_1 --models A,B`"),
            ("digest", "`weir key rotate key_1 --overlap 0s`"),
            ("tenant", "`weir key delete key_1 --force`"),
        ] {
            let said = of_key("key_1", &one(column));
            assert!(said.contains(mend) && said.contains(&format!("`{column}` is odd")), "{said}");
        }
        for (column, mend) in [
            ("monthly_tokens", "`weir tenant set acme --monthly-tokens N`"),
            ("time_zone", "`weir tenant set acme --time-zone ZONE`"),
        ] {
            let said = of_tenant("acme", &one(column));
            assert!(said.contains(mend), "{said}");
        }
    }
}
