//! What is logged: `info`, or by module as well: `info,weir=debug`. Of what other programs in Rust take, the parts
//! about spans are missing, of which Weir has none, and with them the regular expressions that they may hold.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Why a filter can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{0}` is no level: off, error, warn, info, debug or trace")]
    Level(String),
    #[error("`{0}` is no module")]
    Module(String),
}

/// Reads `text`: levels and modules, the longest name of a module before the others.
pub(crate) fn log_filter(text: &str) -> Result<Targets, FilterError> {
    let mut filter = Targets::new();
    let mut is_empty = true;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        is_empty = false;
        let (module, level) = match part.split_once('=') {
            None => match part.parse::<LevelFilter>() {
                Ok(level) => {
                    filter = filter.with_default(level);
                    continue;
                }
                Err(_) => (part, LevelFilter::TRACE),
            },
            Some((module, "")) => (module, LevelFilter::TRACE),
            Some((module, level)) => {
                let found = level.parse().map_err(|_| FilterError::Level(level.to_owned()));
                (module, found?)
            }
        };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-');
        if module.is_empty() || !module.chars().all(is_name) {
            return Err(FilterError::Module(module.to_owned()));
        }
        filter = filter.with_target(module, level);
    }
    Ok(if is_empty { filter.with_default(LevelFilter::ERROR) } else { filter })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_modules_decide() {
        let is_on = |text: &str, module: &str, level| {
            log_filter(text).expect("a good filter").would_enable(module, &level)
        };
        for (text, module, level, expected) in [
            ("", "weir", Level::ERROR, true),
            ("", "weir", Level::WARN, false),
            ("info", "weir", Level::INFO, true),
            ("INFO", "hyper", Level::DEBUG, false),
            ("4", "weir", Level::DEBUG, true),
            ("off", "weir", Level::ERROR, false),
            ("weir=debug", "weir::gateway", Level::DEBUG, true),
            ("weir=debug", "hyper", Level::ERROR, false),
            ("info, weir=debug", "hyper", Level::INFO, true),
            ("info, weir=debug", "weir", Level::DEBUG, true),
            ("weir::ledger=off,weir=debug,", "weir::ledger", Level::ERROR, false),
            ("weir::ledger=off,weir=debug,", "weir::meter", Level::DEBUG, true),
            ("weir", "weir", Level::TRACE, true),
            ("weir=", "weir", Level::TRACE, true),
        ] {
            assert_eq!(is_on(text, module, level), expected, "{text}: {module} {level}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (text, expected) in [
            ("weir=loud", FilterError::Level("loud".into())),
            ("weir=debug=info", FilterError::Level("debug=info".into())),
            ("=debug", FilterError::Module("".into())),
            ("weir[request]=debug", FilterError::Module("weir[request]".into())),
            ("[{tenant=acme}]=debug", FilterError::Level("acme}]=debug".into())),
            ("very loud", FilterError::Module("very loud".into())),
        ] {
            assert_eq!(log_filter(text).err(), Some(expected), "{text}");
        }
    }
}
