//! `weir tenant`: who shares the upstream, and what all keys of each may use together.

use std::sync::Arc;

use anyhow::bail;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::tenancy::{Limits, Tenant};

use super::Misuse;
use super::limits::{LimitArgs, LimitFields, SUMMARY, summary};
use super::names::tenant_name;
use super::open::{open_or_make_store, open_store, open_to_change};
use super::output::{Column, Format, Output, counted, note, to_stdout, write_lines, write_one};
use super::time_args::rfc3339;
use super::unpriced::note_unpriced;
use super::unreadable::note_unreadable_tenant;

/// Make, list, change and delete tenants
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Make a tenant; what is not given is not limited
    Create(Edit),
    /// List all tenants
    List {
        /// How the result is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change a tenant's limits or time zone: only what is given
    Set(Edit),
    /// Delete a tenant and its keys, none of which works any more; what they used stays in the ledger
    Delete {
        /// As `weir tenant list` shows it
        name: String,
        /// Also one with keys that still work
        #[arg(long)]
        force: bool,
        /// How the result is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Edit {
    /// What it is called: letters, digits and . _ -
    #[arg(value_parser = tenant_name)]
    name: String,
    #[command(flatten)]
    limits: LimitArgs,
    /// In which its days and months begin, such as Europe/Berlin; `none`: the configured zone
    #[arg(long, value_name = "ZONE", value_parser = time_zone)]
    time_zone: Option<Zone>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A time zone's IANA name as it was typed; `None`: the configured one.
#[derive(Clone, Debug)]
struct Zone(Option<Arc<str>>);

/// A tenant as output shows it.
#[derive(Debug, Serialize)]
struct TenantLine {
    name: String,
    /// Only where people read it: the limits in one text.
    #[serde(rename = "limits", skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(flatten)]
    limits: LimitFields,
    time_zone: Option<String>,
    created_at: String,
    /// Only where it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

const COLUMNS: [Column; 13] = [
    Column::shown("name", "tenant"),
    SUMMARY,
    Column::hidden("rpm"),
    Column::hidden("tpm"),
    Column::hidden("concurrency"),
    Column::hidden("daily_tokens"),
    Column::hidden("monthly_tokens"),
    Column::hidden("daily_requests"),
    Column::hidden("monthly_requests"),
    Column::hidden("daily_usd"),
    Column::hidden("monthly_usd"),
    Column::ranked("time_zone", "time zone", 2),
    Column::ranked("created_at", "created", 4),
];

const STATUS: Column = Column::shown("status", "status");

/// Does what the arguments say.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut store = match args.action {
        Action::Create(_) => open_or_make_store(config, "tenant")?,
        Action::List { .. } => open_store(config, "tenant")?,
        _ => open_to_change(config, "tenant")?,
    };
    match args.action {
        Action::Create(edit) => {
            let mut limits = Limits::default();
            edit.limits.apply(&mut limits);
            let time_zone = edit.time_zone.and_then(|zone| zone.0);
            store.create_tenant(&edit.name, &limits, time_zone.as_deref(), now_ms)?;
            note_unpriced(&limits, None, config, now_ms);
            let name = edit.name.into();
            let tenant =
                Tenant { name, limits, time_zone, created_at_ms: now_ms, unreadable: Vec::new() };
            write_one(out, edit.format, &COLUMNS, &line(&tenant, edit.format))
        }
        Action::List { format } => {
            let mut tenants = store.tenants()?;
            if tenants.is_empty() {
                note("no tenants yet; `weir tenant create` and `weir key create` make them");
            }
            tenants.retain(|tenant| !note_unreadable_tenant(tenant));
            let lines: Vec<_> = tenants.iter().map(|tenant| line(tenant, format)).collect();
            write_lines(out, format, &COLUMNS, &lines, None)
        }
        Action::Set(edit) => {
            if edit.limits.is_empty() && edit.time_zone.is_none() {
                bail!(Misuse::new(
                    "nothing to change: give a limit, such as `--rpm 60` or `--rpm none`, or \
                     `--time-zone`"
                ));
            }
            let tenant = store.set_tenant(&edit.name, |tenant| {
                edit.limits.apply(&mut tenant.limits);
                if let Some(Zone(zone)) = edit.time_zone {
                    tenant.time_zone = zone;
                }
            })?;
            note_unreadable_tenant(&tenant);
            note_unpriced(&tenant.limits, None, config, now_ms);
            write_one(out, edit.format, &COLUMNS, &line(&tenant, edit.format))
        }
        Action::Delete { name, force, format } => {
            let (tenant, keys) = store.delete_tenant(&name, force, now_ms)?;
            let with_it = counted(keys as u64, "key");
            if format == Format::Table {
                let stays = "what they used stays in the ledger";
                return Ok(writeln!(
                    out,
                    "tenant `{name}` is deleted, and {with_it} with it; {stays}"
                )?);
            }
            note(&format!("{with_it} deleted with it"));
            let columns: Vec<_> = COLUMNS.into_iter().chain([STATUS]).collect();
            let line = TenantLine { status: Some("deleted"), ..line(&tenant, format) };
            write_one(out, format, &columns, &line)
        }
    }
}

fn line(tenant: &Tenant, format: Format) -> TenantLine {
    TenantLine {
        name: tenant.name.to_string(),
        summary: summary(&tenant.limits).filter(|_| format == Format::Table),
        limits: LimitFields::from(&tenant.limits),
        time_zone: tenant.time_zone.as_deref().map(str::to_owned),
        created_at: rfc3339(tenant.created_at_ms),
        status: None,
    }
}

/// Takes the name of a zone of the IANA database, or `none`.
fn time_zone(text: &str) -> Result<Zone, String> {
    if text == "none" {
        return Ok(Zone(None));
    }
    match jiff::tz::TimeZone::get(text) {
        Ok(zone) => Ok(Zone(Some(zone.iana_name().unwrap_or(text).into()))),
        Err(_) => Err("a time zone of the IANA database, such as UTC or Europe/Berlin".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;

    fn store_key(config: &Config, tenant: &str) {
        use crate::store::samples::new_key;
        open_store(config, "tenant").unwrap().create_key(&new_key(1, tenant), 5).unwrap();
    }

    #[test]
    fn tenants_are_made_changed_listed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_in(dir.path());
        let weir = |line: &str| {
            let mut out = Vec::new();
            execute(typed(line).unwrap(), &config, 1_000, &mut out)?;
            anyhow::Ok(String::from_utf8(out).unwrap())
        };
        let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert!(weir("list").unwrap_err().to_string().contains("there is no ledger in"));
        let made = parsed(weir("create acme --daily-tokens 1_000 --rpm 5 --format json").unwrap());
        let mut expected = json!({
            "name": "acme", "rpm": 5, "tpm": null, "concurrency": null, "daily_tokens": 1000,
            "monthly_tokens": null, "daily_requests": null, "monthly_requests": null,
            "daily_usd": null, "monthly_usd": null, "time_zone": null,
            "created_at": "1970-01-01T00:00:01Z",
        });
        assert_eq!(made, expected);
        weir("create beta").unwrap();
        weir("set acme --rpm none --monthly-requests 7").unwrap();
        weir("set acme --time-zone europe/berlin --monthly-usd 12.50").unwrap();
        expected["rpm"] = Value::Null;
        expected["time_zone"] = json!("Europe/Berlin");
        expected["monthly_usd"] = json!("12.50");
        expected["monthly_requests"] = json!(7);
        assert_eq!(parsed(weir("list --format json").unwrap())[0], expected);
        let csv = weir("list --format csv").unwrap();
        assert_eq!(
            csv.lines().nth(1),
            Some("acme,,,,1000,,,7,,12.50,Europe/Berlin,1970-01-01T00:00:01Z")
        );
        assert!(weir("list").unwrap().contains("1,000"));
        let set = parsed(weir("set acme --time-zone none --format json").unwrap());
        assert_eq!(set["time_zone"], Value::Null);
        let made = parsed(weir("create gamma --time-zone Asia/Kolkata --format json").unwrap());
        assert_eq!(made["time_zone"], json!("Asia/Kolkata"));

        store_key(&config, "acme");
        let error = weir("delete acme").unwrap_err().to_string();
        assert!(error.contains("has 1 active key:") && error.contains("--force"), "{error}");
        assert!(weir("list --format csv").unwrap().contains("acme,"));
        let deleted = parsed(weir("delete acme --force --format json").unwrap());
        assert_eq!((&deleted["name"], &deleted["status"]), (&json!("acme"), &json!("deleted")));
        let listed = weir("list --format csv").unwrap();
        assert!(listed.contains("beta,") && !listed.contains("acme,"), "{listed}");
        weir("create acme").unwrap();
        let said = weir("delete beta").unwrap();
        assert_eq!(
            said,
            "tenant `beta` is deleted, and 0 keys with it; what they used stays in the ledger\n"
        );
        weir("create beta").unwrap();
        let csv = weir("delete beta --format csv").unwrap();
        assert!(csv.lines().all(|line| line.ends_with(",status") || line.ends_with(",deleted")));

        // One that can't be read is in no list, until it is set.
        let store = rusqlite::Connection::open(dir.path().join("weir.sqlite")).unwrap();
        store.execute("UPDATE tenants SET rpm = -1 WHERE name = 'acme'", []).unwrap();
        assert!(!weir("list --format csv").unwrap().contains("acme,"));
        weir("set acme --rpm 5").unwrap();
        assert!(weir("list --format csv").unwrap().contains("acme,5,"));

        for (line, error) in [
            ("delete nobody", "no tenant `nobody`; `weir tenant list` shows them"),
            ("create acme", "there is a tenant `acme` already"),
            ("set acme", "nothing to change"),
            ("set nobody --rpm 1", "no tenant `nobody`; `weir tenant list` shows them"),
        ] {
            let found = weir(line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
        for line in
            ["create", "create a/b", "create x --rpm 0", "create x --time-zone Mars", "drop x"]
        {
            assert!(typed::<Args>(line).is_err(), "{line}");
        }
    }
}
