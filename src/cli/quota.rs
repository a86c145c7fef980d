//! `weir quota`: who is how near to a quota. The running server knows what requests in flight have reserved, and is
//! asked first; without it the ledger tells what was used.

mod ledger;
mod server;

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::admin::{Quota, Wanted};
use crate::clock::Clock;
use crate::config::Config;
use crate::price::usd;
use crate::store::{Store, StoreError};

use super::open::open_ledger;
use super::output::{Column, Format, Output, grouped, note, to_stdout, write_lines};
use super::time_args::rfc3339;

/// Show how much of each quota is used and reserved, those nearest to their limit first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this tenant's, and its keys'
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Only those that hold for the key of this id: its own and its tenant's
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const COLUMNS: [Column; 10] = [
    Column::shown("tenant", "tenant"),
    Column::ranked("key", "key", 1),
    Column::ranked("key_name", "key name", 2),
    Column::shown("quota", "quota"),
    Column::shown("used", "used").amount(),
    Column::ranked("reserved", "reserved", 4).amount(),
    Column::shown("limit", "limit").amount(),
    Column::shown("percent", "%"),
    Column::ranked("resets_at", "resets at", 3),
    Column::hidden("source"),
];

/// A quota as output shows it.
#[derive(Debug, Serialize)]
struct QuotaLine {
    tenant: String,
    /// None: the quota of all the tenant's keys together.
    key: Option<String>,
    key_name: Option<String>,
    quota: String,
    used: Amount,
    reserved: Option<Amount>,
    limit: Amount,
    /// Of the limit, used and reserved together, rounded down.
    percent: u64,
    resets_at: String,
    source: Source,
}

/// A count, or billionths of a dollar, which are written as dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Count(u64),
    NanoUsd(u64),
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Server,
    Ledger,
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::NanoUsd(nano_usd) => serializer.serialize_str(&usd(*nano_usd)),
        }
    }
}

/// Writes the list.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(&args, config, now_ms, out))
}

fn execute(args: &Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let wanted = Wanted { tenant: args.tenant.clone(), key: args.key.clone() };
    let asked = server::ask(config, &wanted);
    let store = open_ledger(config, "quota", now_ms)?.store;
    check_names(&store, &wanted)?;
    let (quotas, source) = match asked {
        Ok(quotas) => {
            note(&format!("as the server at {} has it now", config.admin.listen));
            (quotas, Source::Server)
        }
        Err(why) => {
            note(&format!(
                "as the ledger has it, without what requests in flight have reserved: {why}"
            ));
            (ledger::quotas(&store, &wanted, config, now_ms)?, Source::Ledger)
        }
    };
    let lines = lines(quotas, source, &store, args.top as usize)?;
    if lines.is_empty() {
        note(
            "no quotas; `weir key set ID --monthly-tokens N` sets one, `weir tenant set` one for all keys",
        );
    }
    write_lines(out, args.format, &COLUMNS, &lines, None)
}

/// Whoever is asked for has to be there.
fn check_names(store: &Store, wanted: &Wanted) -> Result<(), StoreError> {
    if let Some(id) = &wanted.key
        && !store.knows_key(id)?
    {
        return Err(StoreError::unknown_key(id));
    }
    if let Some(name) = &wanted.tenant
        && !store.knows_tenant(name)?
    {
        return Err(StoreError::UnknownTenant(name.clone()));
    }
    Ok(())
}

/// The quotas nearest to their limit, without those of keys that are revoked.
fn lines(
    quotas: Vec<Quota>,
    source: Source,
    store: &Store,
    top: usize,
) -> anyhow::Result<Vec<QuotaLine>> {
    let keys = store.keys()?;
    let keys: HashMap<&str, _> = keys.iter().map(|key| (&*key.id, key)).collect();
    let key = |quota: &Quota| quota.key.as_deref().and_then(|id| keys.get(id)).copied();
    let is_revoked = |quota: &Quota| key(quota).is_some_and(|key| key.revoked_at_ms.is_some());
    let line = |quota: Quota| QuotaLine {
        key_name: key(&quota).map(|key| key.name.clone()).filter(|name| !name.is_empty()),
        used: amount(&quota, quota.used),
        reserved: quota.reserved.map(|reserved| amount(&quota, reserved)),
        limit: amount(&quota, quota.limit),
        percent: percent(&quota),
        resets_at: rfc3339(quota.resets_at_ms),
        tenant: quota.tenant,
        key: quota.key,
        quota: quota.quota,
        source,
    };
    let mut lines: Vec<_> =
        quotas.into_iter().filter(|quota| !is_revoked(quota)).map(line).collect();
    lines.sort_by(|a, b| {
        let by_name = || (&a.tenant, &a.key, &a.quota).cmp(&(&b.tenant, &b.key, &b.quota));
        b.percent.cmp(&a.percent).then_with(by_name)
    });
    if lines.len() > top {
        let [shown, all] = [top, lines.len()].map(|count| grouped(&count.to_string()));
        note(&format!("the {shown} nearest to their limit, of {all}: `--top N` shows more"));
        lines.truncate(top);
    }
    Ok(lines)
}

/// What all amounts of a quota count.
fn amount(quota: &Quota, amount: u64) -> Amount {
    match quota.quota.ends_with("-usd") {
        true => Amount::NanoUsd(amount),
        false => Amount::Count(amount),
    }
}

fn percent(quota: &Quota) -> u64 {
    let taken = u128::from(quota.used) + u128::from(quota.reserved.unwrap_or(0));
    // A limit of 0 lets nothing pass.
    u64::try_from(taken * 100 / u128::from(quota.limit.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;
    use crate::store::NewKey;
    use crate::store::samples::{HOUR_MS, Sample, new_key, store_with};
    use crate::tenancy::Limits;

    /// In the configured zone, India, the day began 21.5 hours after the epoch's.
    const NOW_MS: i64 = 30 * HOUR_MS;

    fn weir(dir: &tempfile::TempDir, line: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        execute(&typed(line)?, &config_in(dir.path()), NOW_MS, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    /// Two keys of `acme`, one of which asked yesterday and today, and one of `beta`.
    fn world() -> tempfile::TempDir {
        let sample = Sample { key: "key_1", tenant: "acme", ..Sample::default() };
        let (dir, mut store) = store_with(&[
            Sample { id: 1, at_ms: HOUR_MS, cost: Some(250_000_000), ..sample },
            Sample { id: 2, at_ms: 29 * HOUR_MS, cost: Some(250_000_000), ..sample },
            Sample { id: 3, at_ms: 29 * HOUR_MS, key: "key_9", ..sample },
        ]);
        store
            .create_tenant(
                "acme",
                &Limits { daily_tokens: Some(100), ..Limits::default() },
                Some("UTC"),
                0,
            )
            .unwrap();
        let limits = |limits: Limits, number, name: &str, tenant| NewKey {
            name: name.to_owned(),
            limits,
            ..new_key(number, tenant)
        };
        let none = Limits::default;
        for new in [
            limits(
                Limits { daily_requests: Some(4), monthly_nano_usd: Some(2_000_000_000), ..none() },
                1,
                "ci",
                "acme",
            ),
            limits(Limits { rpm: Some(1), ..none() }, 2, "", "acme"),
            limits(Limits { monthly_tokens: Some(7), ..none() }, 3, "", "beta"),
            limits(Limits { monthly_tokens: Some(7), ..none() }, 4, "gone", "beta"),
        ] {
            store.create_key(&new, 0).unwrap();
        }
        store.revoke_key("key_4", 1).unwrap();
        dir
    }

    #[test]
    fn without_a_server_the_ledger_says_what_was_used_nearest_first() {
        let dir = world();
        let json = |line: &str| -> Value {
            serde_json::from_str(&weir(&dir, &format!("{line} --format json")).unwrap()).unwrap()
        };
        let line = |tenant: &str,
                    key: Value,
                    name: Value,
                    quota: &str,
                    (used, limit): (Value, Value),
                    percent: u64,
                    resets_at: &str| {
            json!({"tenant": tenant, "key": key, "key_name": name, "quota": quota, "used": used, "reserved": null,
                "limit": limit, "percent": percent, "resets_at": resets_at, "source": "ledger"})
        };
        let of_key = [
            line(
                "acme",
                json!("key_1"),
                json!("ci"),
                "key-daily-requests",
                (json!(1), json!(4)),
                25,
                "1970-01-03T00:00:00Z",
            ),
            line(
                "acme",
                json!("key_1"),
                json!("ci"),
                "key-monthly-usd",
                (json!("0.50"), json!("2.00")),
                25,
                "1970-02-01T00:00:00Z",
            ),
            line(
                "acme",
                json!(null),
                json!(null),
                "tenant-daily-tokens",
                (json!(20), json!(100)),
                20,
                "1970-01-03T00:00:00Z",
            ),
        ];
        assert_eq!(json("--key key_1"), json!(of_key));
        assert_eq!(json("--tenant acme"), json!(of_key));
        let beta = line(
            "beta",
            json!("key_3"),
            json!(null),
            "key-monthly-tokens",
            (json!(0), json!(7)),
            0,
            "1970-01-31T18:30:00Z",
        );
        let all: Vec<_> = of_key.into_iter().chain([beta]).collect();
        assert_eq!(json(""), json!(all));
        assert_eq!(json("--top 1"), json!(all[..1]));
        // Where nothing is reserved there is no such column.
        let table = weir(&dir, "--tenant acme").unwrap();
        assert!(table.contains("resets at") && !table.contains("reserved"), "{table}");
    }

    #[test]
    fn what_is_not_there_is_told() {
        let dir = world();
        for (line, error) in [
            ("--tenant nobody", "no tenant `nobody`"),
            ("--key key_x", "no key `key_x`"),
            ("--top 0", "1.."),
        ] {
            let found = weir(&dir, line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
        let (dir, _store) = store_with(&[]);
        assert_eq!(weir(&dir, "").unwrap(), "");
    }

    #[test]
    fn percents_are_of_what_is_used_and_reserved_and_never_overflow() {
        let quota = |used, reserved, limit| Quota {
            tenant: String::new(),
            key: None,
            quota: String::new(),
            used,
            reserved,
            limit,
            resets_at_ms: 0,
        };
        for (used, reserved, limit, expected) in [
            (50, Some(29), 100, 79),
            (50, None, 100, 50),
            (0, None, 0, 0),
            (1, None, 0, 100),
            (u64::MAX, Some(u64::MAX), u64::MAX, 200),
            (u64::MAX, Some(u64::MAX), 1, u64::MAX),
        ] {
            assert_eq!(percent(&quota(used, reserved, limit)), expected);
        }
    }
}
