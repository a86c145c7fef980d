//! The one table of all metrics: name, type, labels, help, and where the numbers come from. What
//! is not here is not exposed, and the documentation is compared with it.

mod samples;

use std::sync::atomic::Ordering::Relaxed;

use super::Metrics;
use super::shard::{CHARGED, Level, REFUSALS};
use crate::usage::End;
use samples::{
    alone, by_name, count, distribution, level, level_of, limit_decisions, quotas, requests,
    seconds, tokens,
};

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    /// As it is exposed; a counter's ends in `_total`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    /// Reads the samples: their label values, in the order of `labels`, and their numbers.
    pub(super) read: fn(&Metrics) -> Samples,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub(super) type Samples = Vec<(Vec<String>, Number)>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Count(u64),
    Level(f64),
    /// The sum in seconds; upper bounds in seconds with what fell into each bucket alone.
    Distribution(f64, Vec<(f64, u64)>),
}

impl Kind {
    #[cfg(test)]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All metrics, in the order of a request's life.
pub(super) const TABLE: &[Metric] = &[
    Metric {
        name: "weir_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; the version of this program.",
        read: |_| vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], Number::Level(1.0))],
    },
    Metric {
        name: "weir_uptime_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Since the start.",
        read: |metrics| alone(Number::Level(seconds(metrics.uptime_ns()))),
    },
    Metric {
        name: "weir_client_connections_open",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections from clients.",
        read: |metrics| level(metrics, Level::Client),
    },
    Metric {
        name: "weir_requests_in_flight",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests whose response has not ended.",
        read: |metrics| level(metrics, Level::Request),
    },
    Metric {
        name: "weir_request_body_bytes_in_flight",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of request bodies held; the cap is server.max_inflight_body_bytes.",
        read: |metrics| level_of(metrics.shared.body_bytes.load(Relaxed)),
    },
    Metric {
        name: "weir_requests_total",
        kind: Kind::Counter,
        labels: &["endpoint", "status"],
        help: "Answers by route and by the status that the client saw; rare statuses by class, \
               none where the client saw none.",
        read: requests,
    },
    Metric {
        name: "weir_refusals_total",
        kind: Kind::Counter,
        labels: &["code"],
        help: "Answers that Weir gave instead of an upstream, by error code.",
        read: |metrics| by_name(metrics, &REFUSALS, |shard| &shard.refusals),
    },
    Metric {
        name: "weir_limit_decisions_total",
        kind: Kind::Counter,
        labels: &["limit", "decision"],
        help: "Requests that passed all limits (limit=all, decision=admitted), and those that one \
               stopped (decision=refused), by limit.",
        read: limit_decisions,
    },
    Metric {
        name: "weir_limit_refusals_total",
        kind: Kind::Counter,
        labels: &["tenant", "key", "limit"],
        help: "Requests that a limit refused, by tenant, key and limit; of the first 1,000 pairs of a key and \
               a limit, and of all others together (tenant=other, key=other).",
        read: |metrics| {
            let all = metrics.refused.all().into_iter();
            all.map(|(who, count)| (who.to_vec(), Number::Count(count))).collect()
        },
    },
    Metric {
        name: "weir_quota_alerts_total",
        kind: Kind::Counter,
        labels: &["limit"],
        help: "Thresholds of quotas (limits.alert_percent) that a key or a tenant has crossed, by \
               quota; each is in the log, too.",
        read: |metrics| quotas(|at| Number::Count(metrics.shared.quota_alerts[at].load(Relaxed))),
    },
    Metric {
        name: "weir_quotas_alerting",
        kind: Kind::Gauge,
        labels: &["limit"],
        help: "Keys and tenants that have crossed a threshold of a quota in the day or month that \
               runs, by quota.",
        read: |metrics| {
            quotas(|at| Number::Level(metrics.shared.quotas_over[at].load(Relaxed) as f64))
        },
    },
    Metric {
        name: "weir_request_ends_total",
        kind: Kind::Counter,
        labels: &["end"],
        help: "Requests that were sent upstream, by how they ended.",
        read: |metrics| by_name(metrics, &End::ALL.map(End::name), |shard| &shard.ends),
    },
    Metric {
        name: "weir_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "From a request's arrival to the end of its response, for requests sent upstream.",
        read: |metrics| distribution(metrics, |shard| &shard.duration),
    },
    Metric {
        name: "weir_time_to_first_byte_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "From a request's arrival to the first byte of its response.",
        read: |metrics| distribution(metrics, |shard| &shard.first_byte),
    },
    Metric {
        name: "weir_tokens_total",
        kind: Kind::Counter,
        labels: &["model", "kind"],
        help: "Tokens used, by public model name. cached is part of input, reasoning of output.",
        read: tokens,
    },
    Metric {
        name: "weir_model_differs_total",
        kind: Kind::Counter,
        labels: &["charged"],
        help: "Answers that name another model than the one asked for: charged as the model served, \
               or, where that has no price here, as the one asked for.",
        read: |metrics| by_name(metrics, &CHARGED, |shard| &shard.model_differs),
    },
    Metric {
        name: "weir_upstream_connections_opened_total",
        kind: Kind::Counter,
        labels: &[],
        help: "New connections to upstreams.",
        read: |metrics| count(metrics.sum(|shard| shard.upstream_opened.value())),
    },
    Metric {
        name: "weir_upstream_connections_reused_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests that went over an idle connection.",
        read: |metrics| count(metrics.sum(|shard| shard.upstream_reused.value())),
    },
    Metric {
        name: "weir_upstream_connections_open",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections to upstreams, the idle ones included.",
        read: |metrics| level(metrics, Level::Upstream),
    },
    Metric {
        name: "weir_upstream_connections_idle",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections to upstreams that wait for a request.",
        read: |metrics| level(metrics, Level::UpstreamIdle),
    },
    Metric {
        name: "weir_usage_option_refused_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Streams that went without `stream_options` because their upstream refuses it; their rows have the flag usage_option_refused.",
        read: |metrics| count(metrics.sum(|shard| shard.usage_options_refused.value())),
    },
    Metric {
        name: "weir_upstream_failovers_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Attempts after which a request was sent to another upstream, or with another key.",
        read: |metrics| count(metrics.sum(|shard| shard.failovers.value())),
    },
    Metric {
        name: "weir_upstream_retries_refused_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests that were not sent elsewhere because retry.budget_percent was used up.",
        read: |metrics| count(metrics.sum(|shard| shard.retries_refused.value())),
    },
    Metric {
        name: "weir_journal_records_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Records appended to the journal: two per request.",
        read: |metrics| count(metrics.sum(|shard| shard.journal_records.value())),
    },
    Metric {
        name: "weir_journal_bytes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes appended to the journal.",
        read: |metrics| count(metrics.sum(|shard| shard.journal_bytes.value())),
    },
    Metric {
        name: "weir_journal_append_errors_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Appends to the journal that failed: new requests are refused, a person must act.",
        read: |metrics| count(metrics.sum(|shard| shard.journal_errors.value())),
    },
    Metric {
        name: "weir_journal_append_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "What an append to the journal takes, of one record or several; long ones mean a disk that stalls.",
        read: |metrics| distribution(metrics, |shard| &shard.journal_append),
    },
    Metric {
        name: "weir_drain_rows_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Rows moved from the journal to the store.",
        read: |metrics| count(metrics.shared.drained_rows.load(Relaxed)),
    },
    Metric {
        name: "weir_drain_errors_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Batches that the store did not take, and passes in which a segment of the journal could not be read; they are tried again.",
        read: |metrics| count(metrics.shared.drain_errors.load(Relaxed)),
    },
    Metric {
        name: "weir_journal_damaged_bytes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes of the journal that were no records and had to be passed over.",
        read: |metrics| count(metrics.shared.damaged_bytes.load(Relaxed)),
    },
    Metric {
        name: "weir_journal_segments_unremoved",
        kind: Kind::Gauge,
        labels: &[],
        help: "Segments of the journal whose rows are all stored and which can't be removed: the disk fills up, a person must act.",
        read: |metrics| level_of(metrics.shared.unremoved_segments.load(Relaxed)),
    },
    Metric {
        name: "weir_drain_lag_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of the journal that are not in the store yet.",
        read: |metrics| level_of(metrics.shared.drain_lag_bytes()),
    },
    Metric {
        name: "weir_drain_pass_age_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Since the drain last looked at the journal; it does so five times a second.",
        read: |metrics| {
            alone(Number::Level(seconds(metrics.age_ns(&metrics.shared.drain_passed_ns))))
        },
    },
    Metric {
        name: "weir_journal_sync_age_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Since the last background sync of the journal that succeeded began; there is one every \
               second with data.durability crash; 0 with power.",
        read: |metrics| {
            alone(Number::Level(seconds(metrics.age_ns(&metrics.shared.journal_synced_ns))))
        },
    },
    Metric {
        name: "weir_journal_syncs_stalled",
        kind: Kind::Gauge,
        labels: &[],
        help: "Workers whose journal waits for a sync that has not returned for 5 seconds or more (with \
               data.durability power): new requests are refused, a person must act.",
        read: |metrics| level(metrics, Level::JournalStalled),
    },
    Metric {
        name: "weir_store_wal_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Size of the store's WAL; it grows as long as a program reads the store without a pause.",
        read: |metrics| level_of(metrics.shared.store_wal_bytes.load(Relaxed)),
    },
    Metric {
        name: "weir_keys_unreadable",
        kind: Kind::Gauge,
        labels: &[],
        help: "Tenants and keys of the store that have a value which can't be read: they are refused, a \
               person must act; weir tenant list and weir key list name them.",
        read: |metrics| level_of(metrics.shared.keys_unreadable.load(Relaxed)),
    },
    Metric {
        name: "weir_keys_refresh_age_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Since the tenants and keys were last those of the store; it is asked four times a second.",
        read: |metrics| {
            alone(Number::Level(seconds(metrics.age_ns(&metrics.shared.keys_followed_ns))))
        },
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The table as `docs/metrics.md` shows it.
    fn markdown() -> String {
        let mut text = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
        for metric in TABLE {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            text += &format!(
                "| `{}` | {} | {} | {} |\n",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.help
            );
        }
        text
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let documented = include_str!("../../../docs/metrics.md");
        assert!(documented.contains(&markdown()), "docs/metrics.md should hold\n{}", markdown());
    }

    #[test]
    fn names_follow_the_convention() {
        let mut names = HashSet::new();
        for metric in TABLE {
            assert!(metric.name.starts_with("weir_"), "{}", metric.name);
            assert!(names.insert(metric.name), "{} stands here twice", metric.name);
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == Kind::Counter, "{}", metric.name);
            let seconds = metric.name.ends_with("_seconds");
            assert!(seconds || metric.kind != Kind::Histogram, "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|']));
        }
    }
}
