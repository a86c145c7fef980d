//! A configuration for tests, and commands typed as a user types them.

use std::path::Path;

use clap::Parser;

use crate::config::{
    Admin, Admission, Config, Data, Deadlines, Durability, Log, Retry, Server, Unpriced,
};
use crate::price::Prices;
use crate::tenancy::Limits;

/// A configuration whose data is in `dir`, with days as in India, half an hour off, and 60 requests
/// per minute for a new key.
pub(crate) fn config_in(dir: &Path) -> Config {
    let nowhere = "127.0.0.1:0".parse().expect("an address");
    Config {
        server: Server {
            listen: nowhere,
            workers: 1,
            max_connections: 1,
            max_connections_per_address: 1,
            max_headers: 100,
            max_head_bytes: 8192,
            max_body_bytes: 1,
            max_inflight_body_bytes: 1,
            max_tenant_body_bytes: 1,
            failed_keys_per_minute: 1,
            cors_origins: Vec::new(),
            half_close: true,
        },
        admin: Admin { listen: nowhere, token: None, hosts: Vec::new() },
        data: Data {
            dir: dir.to_owned(),
            durability: Durability::Crash,
            segment_bytes: 1 << 20,
            keep_rows: None,
            response_owners: 1_000,
        },
        limits: Admission {
            new_key: Limits { rpm: Some(60), ..Limits::default() },
            rpm_burst: None,
            time_zone: jiff::tz::TimeZone::get("Asia/Kolkata").expect("a known zone"),
            unpriced: Unpriced::Refuse,
            alert_percent: vec![80, 100],
        },
        deadlines: Deadlines {
            request_head_ms: 1,
            request_body_idle_ms: 1,
            request_body_ms: 1,
            request_body_bytes_per_second: 0,
            write_progress_ms: 1,
            shutdown_ms: 1,
        },
        upstreams: Vec::new(),
        models: Vec::new(),
        prices: Prices::default(),
        retry: Retry {
            attempts: 1,
            within_ms: 1,
            budget_percent: 0,
            on_status: Vec::new(),
            on_reset: false,
        },
        log: Log { filter: "info".to_owned(), json: false },
    }
}

/// Reads what a user types after the subcommand's name.
pub(crate) fn typed<A: clap::Args>(line: &str) -> Result<A, clap::Error> {
    #[derive(Parser)]
    struct Typed<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    let words = std::iter::once("weir").chain(line.split_whitespace());
    Typed::<A>::try_parse_from(words).map(|typed| typed.args)
}
