//! From the table to the text that a scraper reads.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::table::{Kind, Number, Samples, TABLE};

/// The type of what [`Metrics::render`] writes: OpenMetrics 1.0, which Prometheus asks for first.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one scrape has read, metric by metric in the table's order.
#[derive(Debug)]
struct Scrape(Vec<Samples>);

pub(super) fn render(metrics: &Metrics) -> String {
    let mut registry = Registry::default();
    let scrape = Scrape(TABLE.iter().map(|metric| (metric.read)(metrics)).collect());
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("writing to a String never fails");
    text
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (metric, samples) in TABLE.iter().zip(&self.0) {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // The encoder puts it back at each sample, as the format wants it.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (values, number) in samples {
                if values.is_empty() {
                    encode(&mut family, number)?;
                } else {
                    let values = values.iter().map(String::as_str);
                    let labels: Vec<(&str, &str)> =
                        metric.labels.iter().copied().zip(values).collect();
                    encode(&mut family.encode_family(&labels)?, number)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder<'_>, number: &Number) -> Result<(), std::fmt::Error> {
    match number {
        Number::Count(count) => encoder.encode_counter::<NoLabelSet, _, f64>(count, None),
        Number::Level(level) => encoder.encode_gauge(level),
        Number::Distribution(sum, buckets) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, Level};
    use super::*;
    use crate::clock::Clock;
    use crate::usage::{End, Usage};

    #[test]
    fn sums_the_shards_into_lines() {
        let (clock, hand) = Clock::manual(0);
        hand.advance_ms(1_000);
        let metrics = Metrics::new(2, vec!["a\"b".to_owned()], clock);
        hand.advance_ms(2_500);
        let [one, two] = metrics.shards.as_slice() else { panic!("two workers") };
        one.request(Endpoint::ChatCompletions, 200);
        two.request(Endpoint::ChatCompletions, 200);
        two.request(Endpoint::Models, 418);
        one.ended(End::Complete, 7_000_000);
        two.ended(End::Complete, 400_000_000_000);
        one.tokens(0, &Usage { input: 10, output: 4, ..Usage::default() });
        two.tokens(0, &Usage { input: 1, ..Usage::default() });
        two.limited("key-tokens");
        metrics.refused.count(&"acme".into(), &"key_1".into(), "key-tokens");
        one.admitted();
        one.journal_appended(2, 120, 1_500);
        metrics.shared.drained(3);
        metrics.shared.drain_lag(|| 77);
        let _held = (one.hold(Level::Client), two.hold(Level::Client));
        let text = metrics.render();
        for line in [
            "# TYPE weir_requests counter",
            "weir_requests_total{endpoint=\"/v1/chat/completions\",status=\"200\"} 2",
            "weir_requests_total{endpoint=\"/v1/models\",status=\"4xx\"} 1",
            "weir_request_ends_total{end=\"complete\"} 2",
            "weir_request_duration_seconds_sum 400.007",
            "weir_request_duration_seconds_count 2",
            "weir_request_duration_seconds_bucket{le=\"0.005\"} 0",
            "weir_request_duration_seconds_bucket{le=\"0.01\"} 1",
            "weir_request_duration_seconds_bucket{le=\"300.0\"} 1",
            "weir_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "weir_tokens_total{model=\"a\\\"b\",kind=\"input\"} 11",
            "weir_tokens_total{model=\"other\",kind=\"input\"} 0",
            "weir_limit_decisions_total{limit=\"key-tokens\",decision=\"refused\"} 1",
            "weir_limit_refusals_total{tenant=\"acme\",key=\"key_1\",limit=\"key-tokens\"} 1",
            "weir_limit_decisions_total{limit=\"all\",decision=\"admitted\"} 1",
            "weir_journal_records_total 2",
            "weir_journal_bytes_total 120",
            "weir_drain_rows_total 3",
            "weir_drain_lag_bytes 77.0",
            "weir_client_connections_open 2.0",
            "weir_uptime_seconds 2.5",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_there_from_the_start_with_the_labels_of_the_table() {
        let metrics = Metrics::new(1, vec!["m".to_owned()], Clock::manual(0).0);
        for metric in TABLE {
            let samples = (metric.read)(&metrics);
            // Routes times statuses appear as they happen, and so does who is refused.
            let appears =
                ["weir_requests_total", "weir_limit_refusals_total"].contains(&metric.name);
            assert!(!samples.is_empty() || appears, "{}", metric.name);
            for (values, _) in samples {
                assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
            }
        }
    }
}
