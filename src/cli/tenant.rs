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
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change a tenant's limits: only those given
    Set(Edit),
}

#[derive(Clone, Debug, clap::Args)]
struct Edit {
    #[arg(value_parser = tenant_name)]
    name: String,
    #[command(flatten)]
    limits: LimitArgs,
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
