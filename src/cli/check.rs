//! `weir check`: whether the configuration is valid, and what it comes to. It starts nothing and
//! asks nobody.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::clock::Clock;
use crate::config::{Config, Secrets, Upstream};

use super::unpriced::note_unpriced;

/// Say whether the configuration is valid, or everything that is wrong with it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Check all but the secrets, where they are not at hand
    #[arg(long)]
    without_secrets: bool,
}

pub(super) fn run(args: Args, file: Option<&Path>) -> anyhow::Result<()> {
    let secrets = if args.without_secrets { Secrets::Optional } else { Secrets::Required };
    let config = Config::load(file, secrets)?;
    let origin = origin(Config::file_in_use(file).as_deref(), &Config::overriding_variables());
    std::io::stdout().write_all(report(&config, &origin, secrets).as_bytes())?;
    note_unpriced(&config.limits.new_key, None, &config, Clock::system().now().unix_ms);
    Ok(())
}

/// Where the configuration came from.
fn origin(file: Option<&Path>, variables: &[String]) -> String {
    let file = file.map_or("built-in defaults".to_owned(), |file| file.display().to_string());
    if variables.is_empty() { file } else { format!("{file}, and {}", variables.join(", ")) }
}

/// What a valid configuration comes to, for people.
fn report(config: &Config, origin: &str, secrets: Secrets) -> String {
    let workers = config.server.workers;
    let token = match (&config.admin.token, secrets) {
        (Some(_), _) => "with a token",
        (None, Secrets::Required) => "without a token: health and metrics only",
        (None, Secrets::Optional) => "token not checked",
    };
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{:<15} {value}", format!("{name}:")).expect("a String takes everything");
    };
    line("configuration", format!("valid ({origin})"));
    line("clients", format!("http://{}, workers: {workers}", config.server.listen));
    line("administration", format!("http://{}, {token}", config.admin.listen));
    line("data", config.data.dir.display().to_string());
    for upstream in &config.upstreams {
        line("upstream", describe(upstream, secrets));
    }
    text
}

fn describe(upstream: &Upstream, secrets: Secrets) -> String {
    let url = &upstream.base_url;
    let scheme = if url.tls { "https" } else { "http" };
    let keys = upstream.api_keys.len();
    let key = match (&upstream.api_keys[0].secret, secrets) {
        _ if keys > 1 => format!("with {keys} keys"),
        (Some(_), _) => "with a key".to_owned(),
        (None, Secrets::Required) => "without a key".to_owned(),
        (None, Secrets::Optional) => "key not checked".to_owned(),
    };
    let models: Vec<String> = upstream
        .models
        .iter()
        .map(|model| match model.name == model.upstream_name {
            true => model.name.clone(),
            false => format!("{} (there {})", model.name, model.upstream_name),
        })
        .collect();
    format!(
        "{} at {scheme}://{}{}, {key}, for {}",
        upstream.name,
        url.authority,
        url.root,
        models.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_what_a_configuration_comes_to() {
        let text = r#"
            server = { listen = "127.0.0.1:1234", workers = 3 }
            [[upstream]]
            name = "lab"
            base_url = "http://127.0.0.1:9/api/v1"
            models = ["a", { name = "b", upstream_name = "c" }]
        "#;
        let config = Config::from_toml(text, Secrets::Optional).expect("it is valid");
        let expected = "\
configuration:  valid (built-in defaults, and WEIR__LOG__FILTER)
clients:        http://127.0.0.1:1234, workers: 3
administration: http://127.0.0.1:8081, token not checked
data:           weir-data
upstream:       lab at http://127.0.0.1:9/api/v1, key not checked, for a, b (there c)
";
        let origin = origin(None, &["WEIR__LOG__FILTER".to_owned()]);
        assert_eq!(report(&config, &origin, Secrets::Optional), expected);
    }
}
