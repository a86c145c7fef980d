//! Samples out of the shards: sums over all workers, with the labels that stand beside them.

use super::super::Metrics;
use super::super::cells::{Counter, Histogram};
use super::super::shard::{
    CLASSES, Endpoint, LIMITS, Level, OTHER, QUOTAS, STATUSES, Shard, TOKEN_KINDS,
};
use super::{Number, Samples};

pub(super) fn alone(number: Number) -> Samples {
    vec![(Vec::new(), number)]
}

pub(super) fn count(count: u64) -> Samples {
    alone(Number::Count(count))
}

pub(super) fn level(metrics: &Metrics, level: Level) -> Samples {
    level_of(metrics.sum(|shard| shard.level(level)))
}

/// f64 is what the format has; it is exact to 2^53.
pub(super) fn level_of(level: u64) -> Samples {
    alone(Number::Level(level as f64))
}

pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Sums one counter per name over all shards.
pub(super) fn by_name<const N: usize>(
    metrics: &Metrics,
    names: &[&str; N],
    of: fn(&Shard) -> &[Counter; N],
) -> Samples {
    let sample = |(index, name): (usize, &&str)| {
        let total = metrics.sum(|shard| of(shard)[index].value());
        (vec![(*name).to_owned()], Number::Count(total))
    };
    names.iter().enumerate().map(sample).collect()
}

/// Only what has happened: routes times statuses are many, and most never do.
pub(super) fn requests(metrics: &Metrics) -> Samples {
    let statuses = STATUSES.iter().map(u16::to_string);
    let labels: Vec<String> =
        statuses.chain(CLASSES.iter().map(|class| (*class).to_owned())).collect();
    let mut samples = Samples::new();
    for endpoint in Endpoint::ALL {
        for (index, status) in labels.iter().enumerate() {
            let total = metrics.sum(|shard| shard.requests[endpoint as usize][index].value());
            if total > 0 {
                let labels = vec![endpoint.name().to_owned(), status.clone()];
                samples.push((labels, Number::Count(total)));
            }
        }
    }
    samples
}

pub(super) fn limit_decisions(metrics: &Metrics) -> Samples {
    let admitted = metrics.sum(|shard| shard.admitted.value());
    let mut samples =
        vec![(vec!["all".to_owned(), "admitted".to_owned()], Number::Count(admitted))];
    for (mut labels, number) in by_name(metrics, &LIMITS, |shard| &shard.limited) {
        labels.push("refused".to_owned());
        samples.push((labels, number));
    }
    samples
}

pub(super) fn quotas(number: impl Fn(usize) -> Number) -> Samples {
    let sample = |(at, name): (usize, &&str)| (vec![(*name).to_owned()], number(at));
    QUOTAS.iter().enumerate().map(sample).collect()
}

pub(super) fn tokens(metrics: &Metrics) -> Samples {
    let models = metrics.models.iter().map(String::as_str).chain([OTHER]);
    let mut samples = Samples::new();
    for (model, name) in models.enumerate() {
        for (kind, kind_name) in TOKEN_KINDS.iter().enumerate() {
            let total = metrics.sum(|shard| shard.tokens[model][kind].value());
            samples.push((vec![name.to_owned(), (*kind_name).to_owned()], Number::Count(total)));
        }
    }
    samples
}

pub(super) fn distribution(metrics: &Metrics, of: fn(&Shard) -> &Histogram) -> Samples {
    let Some(first) = metrics.shards.first() else { return Samples::new() };
    let bounds = of(first).bounds_ns.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
    for shard in &metrics.shards {
        for (bucket, count) in buckets.iter_mut().zip(of(shard).counts()) {
            bucket.1 += count;
        }
    }
    let sum = metrics.sum(|shard| of(shard).sum_ns());
    alone(Number::Distribution(seconds(sum), buckets))
}
