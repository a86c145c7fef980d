//! Logs: fields first, then a constant lower-case message; to stderr, because stdout belongs to
//! results. ERROR means that a person must act, one line per request is DEBUG, nothing is logged
//! per chunk.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::TryInitError;

use crate::config::{FilterError, Log, log_filter};

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("log.filter can't be read")]
    Filter(#[from] FilterError),
    #[error("logs are already set up in this process")]
    Twice(#[from] TryInitError),
}

/// Sets the process's logs up. To be called once, before the first worker starts.
///
/// # Errors
///
/// When the filter can't be read (a valid [`Log`] has one that can), or logs are set up already.
pub(crate) fn init(log: &Log) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let colours = std::io::stderr().is_terminal();
    Ok(subscriber(log, colours, std::io::stderr)?.try_init()?)
}

/// A subscriber that writes what passes the filter, in the form that is asked for.
fn subscriber<W>(
    log: &Log,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, FilterError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = tracing_subscriber::registry().with(log_filter(&log.filter)?);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // It would say so on standard error, and panic where that is what can't be written.
        .log_internal_errors(false);
    Ok(if log.json {
        Box::new(filter.with(layer.json().flatten_event(true).with_span_list(false)))
    } else {
        Box::new(filter.with(layer.with_ansi(colours)))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test panics while it writes").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile by this thread, from INFO on.
    pub(crate) fn logged(run: impl FnOnce()) -> String {
        logged_as("info", false, run)
    }

    fn logged_as(filter: &str, json: bool, run: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let log = Log { filter: filter.to_owned(), json };
        let subscriber = subscriber(&log, false, move || writer.clone()).expect("a good filter");
        tracing::subscriber::with_default(subscriber, run);
        let bytes = paper.0.lock().expect("no test panics while it writes").clone();
        String::from_utf8(bytes).expect("logs are UTF-8")
    }

    fn written(filter: &str, json: bool) -> String {
        logged_as(filter, json, || {
            tracing::info!(workers = 2, "serving");
            tracing::debug!("request");
        })
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = written("info", true);
        let line: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "serving");
        assert_eq!(line["workers"], 2);
    }

    #[test]
    fn the_filter_decides() {
        for (filter, lines) in [("off", 0), ("info", 1), ("weir=debug", 2), ("hyper=debug", 0)] {
            assert_eq!(written(filter, false).lines().count(), lines, "{filter}");
        }
        assert!(!written("info", false).contains('\u{1b}'), "no colours without a terminal");
    }
}
