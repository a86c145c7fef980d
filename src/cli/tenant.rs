//! `weir tenant`: who shares the upstream, and what all keys of each may use together.

use std::io::Write;

use anyhow::bail;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::tenancy::{Limits, Tenant};

use super::limits::{LimitArgs, LimitFields};
use super::names::tenant_name;
use super::open::open_store;
use super::output::{Column, Format, note, to_stdout, write_lines, write_one};
use super::when::rfc3339;

/// Make, list and change tenants
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
    /// Change a tenant's limits: only those given
    Set(Edit),
}

#[derive(Clone, Debug, clap::Args)]
struct Edit {
    /// What it is called: letters, digits and . _ -
    #[arg(value_parser = tenant_name)]
    name: String,
    #[command(flatten)]
    limits: LimitArgs,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A tenant as output shows it.
#[derive(Debug, Serialize)]
struct TenantLine {
    name: String,
    #[serde(flatten)]
    limits: LimitFields,
    created_at: String,
}

const COLUMNS: [Column; 9] = [
    Column::shown("name", "tenant"),
    Column::shown("rpm", "rpm"),
    Column::shown("tpm", "tpm"),
    Column::shown("concurrency", "concurrency"),
    Column::shown("daily_tokens", "daily tokens"),
    Column::shown("monthly_tokens", "monthly tokens"),
    Column::shown("daily_requests", "daily requests"),
    Column::shown("monthly_requests", "monthly requests"),
    Column::shown("created_at", "created"),
];

/// Does what the arguments say.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut store = open_store(config)?;
    match args.action {
        Action::Create(edit) => {
            let mut limits = Limits::default();
            edit.limits.apply(&mut limits);
            store.create_tenant(&edit.name, &limits, now_ms)?;
            let tenant = Tenant { name: edit.name.into(), limits, created_at_ms: now_ms };
            write_one(out, edit.format, &COLUMNS, &line(&tenant))
        }
        Action::List { format } => {
            let tenants = store.tenants()?;
            if tenants.is_empty() {
                note("no tenants yet; `weir tenant create` and `weir key create` make them");
            }
            let lines: Vec<_> = tenants.iter().map(line).collect();
            write_lines(out, format, &COLUMNS, &lines, None)
        }
        Action::Set(edit) => {
            if edit.limits.is_empty() {
                bail!("nothing to change: give a limit, such as `--rpm 60` or `--rpm none`");
            }
            let tenant = store.set_tenant_limits(&edit.name, |limits| edit.limits.apply(limits))?;
            write_one(out, edit.format, &COLUMNS, &line(&tenant))
        }
    }
}

fn line(tenant: &Tenant) -> TenantLine {
    TenantLine {
        name: tenant.name.to_string(),
        limits: LimitFields::from(&tenant.limits),
        created_at: rfc3339(tenant.created_at_ms),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;

    #[test]
    fn tenants_are_made_changed_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_in(dir.path());
        let weir = |line: &str| {
            let mut out = Vec::new();
            execute(typed(line).unwrap(), &config, 1_000, &mut out)?;
            anyhow::Ok(String::from_utf8(out).unwrap())
        };
        let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(weir("list --format json").unwrap(), "[]\n");
        let made = parsed(weir("create acme --daily-tokens 1_000 --rpm 5 --format json").unwrap());
        let mut expected = json!({
            "name": "acme", "rpm": 5, "tpm": null, "concurrency": null, "daily_tokens": 1000,
            "monthly_tokens": null, "daily_requests": null, "monthly_requests": null,
            "created_at": "1970-01-01T00:00:01Z",
        });
        assert_eq!(made, expected);
        weir("create beta").unwrap();
        weir("set acme --rpm none --monthly-requests 7").unwrap();
        expected["rpm"] = Value::Null;
        expected["monthly_requests"] = json!(7);
        assert_eq!(parsed(weir("list --format json").unwrap())[0], expected);
        let csv = weir("list --format csv").unwrap();
        assert_eq!(csv.lines().nth(1), Some("acme,,,,1000,,,7,1970-01-01T00:00:01Z"));
        assert!(weir("list").unwrap().contains("1,000"));

        for (line, error) in [
            ("create acme", "there is a tenant `acme` already"),
            ("set acme", "nothing to change"),
            ("set nobody --rpm 1", "no tenant `nobody`; `weir tenant list` shows them"),
        ] {
            let found = weir(line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
        for line in ["create", "create a/b", "create x --rpm 0", "create x --rpm many", "drop x"] {
            assert!(typed::<Args>(line).is_err(), "{line}");
        }
    }
}
