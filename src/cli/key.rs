//! `weir key`: the life of a key. Its text is shown once, when it is made; the store has a digest.

mod closed;
mod delete;
mod find;
mod line;
mod models;
mod suspend;

use anyhow::bail;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::suggest::nearest;
use crate::identify::key_text::{KeyText, generate_id};
use crate::store::{NewKey, Store, StoreError};
use crate::tenancy::{Key, Secret};

use super::Misuse;
use super::limits::LimitArgs;
use super::names::{key_name, tenant_name};
use super::open::{open_or_make_store, open_store, open_to_change};
use super::output::{Format, Output, note, to_stdout, write_lines, write_one};
use super::time_args::{Toward, When, rfc3339, span_ms, when};
use super::unpriced::note_unpriced;
use super::unreadable::note_unreadable_key;
use line::{COLUMNS, KEY, line, write_ended};
use models::{Models, models, note_unserved};

/// Make, list, find, change, suspend, resume, rotate, revoke and delete keys
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Make a key and show it, this once; limits that are not given are the configured defaults
    Create(Create),
    /// List keys, without their text
    List(List),
    /// Change a key: only what is given
    Set(Set),
    /// Give a key a new text; id, limits and usage stay
    Rotate(Rotate),
    /// Let a key open nothing until `weir key resume`; limits and usage stay
    Suspend(One),
    /// Let a suspended key work again
    Resume(One),
    /// Say which key a text is: the text is read from standard input, and goes nowhere
    Find(find::Args),
    /// End a key at once and for good
    Revoke(One),
    /// Delete a key that is revoked or has expired; what it used stays in the ledger, under its id
    Delete(delete::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct Create {
    /// Whose key it is; a tenant of that name is made if there is none
    #[arg(long, value_name = "T", value_parser = tenant_name)]
    tenant: String,
    #[command(flatten)]
    options: Options,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct List {
    /// Only this tenant's
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct Set {
    /// As `weir key list` shows it: key_…
    id: String,
    #[command(flatten)]
    options: Options,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct Rotate {
    /// As `weir key list` shows it: key_…
    id: String,
    /// How long the old text goes on working, such as 24h; 0s ends it at once
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = overlap)]
    overlap: i64,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct One {
    /// As `weir key list` shows it: key_…
    id: String,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What can be chosen for a new key, and changed later.
#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// What people call it
    #[arg(long, value_parser = key_name)]
    name: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Limit answers to what the quotas have left, instead of refusing the request
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    clamp: Option<bool>,
    /// End a running stream that has used up its reservation and the quotas
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    cut: Option<bool>,
    /// The models it may use, separated by commas; `all`: every model
    #[arg(long, value_name = "A,B", value_parser = models)]
    models: Option<Models>,
    /// When it ends: a date, RFC 3339, or a span from now such as 90d; `none`: never
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: Option<End>,
}

/// When a key ends, as it was typed; `None`: never.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End(Option<When>);

/// Does what the arguments say.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let store = || open_to_change(config, "key");
    match args.action {
        Action::Create(args) => create(args, config, now_ms, out),
        Action::List(args) => list(&args, &open_store(config, "key")?, now_ms, out),
        Action::Set(args) => set(args, &mut store()?, config, now_ms, out),
        Action::Rotate(args) => rotate(&args, &mut store()?, now_ms, out),
        Action::Suspend(args) => {
            let switched = store()?.suspend_key(&args.id, now_ms)?;
            suspend::suspended(&switched, now_ms, args.format, out)
        }
        Action::Resume(args) => {
            let switched = store()?.resume_key(&args.id)?;
            suspend::resumed(&switched, now_ms, args.format, out)
        }
        Action::Find(args) => {
            args.require_nothing_typed()?;
            let text = find::read(&mut std::io::stdin().lock())?;
            find::run(&args, &text, &open_store(config, "key")?, now_ms, out)
        }
        Action::Revoke(args) => {
            let key = store()?.revoke_key(&args.id, now_ms)?;
            let said = "is revoked: nothing opens it any more, and it stays so";
            write_ended(out, args.format, &line(&key, now_ms, args.format), said)
        }
        Action::Delete(args) => delete::run(&args, &mut store()?, config, now_ms, out),
    }
}

fn create(args: Create, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    note_unserved(args.options.models.as_ref(), config);
    let text = KeyText::generate()?;
    let expires_at_ms = args.options.expires(config, now_ms)?.flatten();
    let mut limits = config.limits.new_key.clone();
    args.options.limits.apply(&mut limits);
    let models = args.options.models.and_then(|models| models.0);
    let new = NewKey {
        id: generate_id()?.into(),
        tenant: args.tenant.into(),
        name: args.options.name.unwrap_or_default(),
        limits,
        clamp: args.options.clamp.unwrap_or(false),
        cut: args.options.cut.unwrap_or(false),
        models,
        expires_at_ms,
        secret: secret_of(&text),
    };
    note_unpriced(&new.limits, new.models.as_deref(), config, now_ms);
    if open_or_make_store(config, "key")?.create_key(&new, now_ms)? {
        note(&format!("made tenant `{}`, without limits", new.tenant));
    }
    let key = Key {
        id: new.id,
        tenant: new.tenant,
        name: new.name,
        limits: new.limits,
        clamp: new.clamp,
        cut: new.cut,
        models: new.models,
        created_at_ms: now_ms,
        expires_at_ms,
        suspended_at_ms: None,
        revoked_at_ms: None,
        secrets: vec![new.secret],
        unreadable: Vec::new(),
    };
    let lost = format!(
        "key `{0}` was made, and nobody has its text: `weir key revoke {0}` ends it",
        key.id
    );
    show_text(&key, &text, args.format, now_ms, out, &lost)
}

fn list(args: &List, store: &Store, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let wanted = |key: &Key| args.tenant.as_ref().is_none_or(|tenant| **tenant == *key.tenant);
    let mut keys = store.keys()?;
    keys.retain(wanted);
    if let Some(name) = args.tenant.as_deref().filter(|_| keys.is_empty()) {
        known_tenant(store, name)?;
    }
    keys.retain(|key| !note_unreadable_key(key));
    let lines: Vec<_> = keys.iter().map(|key| line(key, now_ms, args.format)).collect();
    if lines.is_empty() {
        note("no keys; `weir key create --tenant NAME` makes one");
    }
    write_lines(out, args.format, &COLUMNS, &lines, None)
}

/// A tenant that is not there is a mistake; one without keys is none.
fn known_tenant(store: &Store, name: &str) -> anyhow::Result<()> {
    let tenants = store.tenants()?;
    let mut names = tenants.iter().map(|tenant| &*tenant.name);
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    match nearest(name, &mut names) {
        Some(near) => bail!("no tenant `{name}`; did you mean `{near}`?"),
        None => Err(StoreError::UnknownTenant(name.to_owned()).into()),
    }
}

fn set(
    args: Set,
    store: &mut Store,
    config: &Config,
    now_ms: i64,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let Options { name, limits, clamp, cut, models, expires } = &args.options;
    let is_same = name.is_none() && models.is_none() && expires.is_none();
    if is_same && limits.is_empty() && clamp.is_none() && cut.is_none() {
        bail!(Misuse::new(
            "nothing to change: give `--name`, `--models`, `--expires`, `--clamp`, `--cut` or a limit"
        ));
    }
    let expires = args.options.expires(config, now_ms)?;
    note_unserved(args.options.models.as_ref(), config);
    let options = args.options;
    let key = store.set_key(&args.id, |key| {
        options.limits.apply(&mut key.limits);
        if let Some(name) = options.name {
            key.name = name;
        }
        key.clamp = options.clamp.unwrap_or(key.clamp);
        key.cut = options.cut.unwrap_or(key.cut);
        if let Some(Models(models)) = options.models {
            key.models = models;
        }
        if let Some(expires_at_ms) = expires {
            key.expires_at_ms = expires_at_ms;
        }
    })?;
    note_unreadable_key(&key);
    closed::note_closed(&key, now_ms);
    note_unpriced(&key.limits, key.models.as_deref(), config, now_ms);
    write_one(out, args.format, &COLUMNS, &line(&key, now_ms, args.format))
}

fn rotate(
    args: &Rotate,
    store: &mut Store,
    now_ms: i64,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let text = KeyText::generate()?;
    let until_ms =
        now_ms.checked_add(args.overlap).ok_or_else(|| Misuse::new("the overlap is too long"))?;
    let key = store.rotate_key(&args.id, &secret_of(&text), until_ms, now_ms)?;
    let old = match args.overlap {
        0 => "the old key has ended".to_owned(),
        _ => format!("the old key ends at {}", rfc3339(until_ms)),
    };
    note_unreadable_key(&key);
    let lost = format!(
        "key `{0}` has a new text, and nobody has it; {old}: `weir key rotate {0}` gives it another text",
        key.id
    );
    show_text(&key, &text, args.format, now_ms, out, &lost)?;
    note(&old);
    Ok(())
}

/// Shows a key with its text. Nobody can keep what did not leave, also where a reader of the output was only
/// gone: that is the error, and `lost` says what is to be done about it.
fn show_text(
    key: &Key,
    text: &KeyText,
    format: Format,
    now_ms: i64,
    out: &mut dyn Output,
    lost: &str,
) -> anyhow::Result<()> {
    let mut line = line(key, now_ms, format);
    line.key = Some(text.reveal().to_owned());
    let columns: Vec<_> = std::iter::once(KEY).chain(COLUMNS).collect();
    let written = write_one(out, format, &columns, &line).and_then(|()| Ok(out.flush()?));
    if let Err(error) = written {
        bail!("{lost} (the output failed: {error})");
    }
    note("keep the key: it is shown only this once");
    Ok(())
}

impl Options {
    /// When the key ends: not given, never, or then. A moment that has passed is refused.
    fn expires(&self, config: &Config, now_ms: i64) -> Result<Option<Option<i64>>, Misuse> {
        let Some(End(end)) = &self.expires else { return Ok(None) };
        let Some(when) = end else { return Ok(Some(None)) };
        let at_ms = when.resolve(now_ms, Toward::Future, &config.limits.time_zone)?;
        if at_ms <= now_ms {
            return Err(Misuse(format!(
                "--expires has passed already, at {}; `weir key revoke` ends a key at once",
                rfc3339(at_ms)
            )));
        }
        Ok(Some(Some(at_ms)))
    }
}

fn secret_of(text: &KeyText) -> Secret {
    Secret { digest: text.digest(), last4: text.last4().to_owned(), expires_at_ms: None }
}

/// Takes a time, or `none`.
fn end(text: &str) -> Result<End, String> {
    if text == "none" {
        return Ok(End(None));
    }
    when(text).map(Some).map(End)
}

fn overlap(text: &str) -> Result<i64, String> {
    span_ms(text).ok_or_else(|| "a span such as 24h, 7d or 0s".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;

    /// 21 November 2026, noon in UTC.
    const NOW_MS: i64 = 1_795_262_400_000;

    struct World {
        config: Config,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { config: config_in(dir.path()), _dir: dir }
        }

        fn weir_at(&self, now_ms: i64, line: &str) -> anyhow::Result<String> {
            let mut out = Vec::new();
            execute(typed(line)?, &self.config, now_ms, &mut out)?;
            Ok(String::from_utf8(out)?)
        }

        fn weir(&self, line: &str) -> String {
            self.weir_at(NOW_MS, line).unwrap_or_else(|error| panic!("{line}: {error:#}"))
        }

        fn json(&self, line: &str) -> Value {
            serde_json::from_str(&self.weir(&format!("{line} --format json"))).unwrap()
        }
    }

    #[test]
    fn a_new_key_is_shown_once_and_works() {
        let world = World::new();
        let made = world
            .json("create --tenant acme --name ci --tpm 100_000 --models a,b --expires 2027-01-01");
        let text = KeyText::parse(made["key"].as_str().unwrap().as_bytes()).unwrap();
        let key = open_store(&world.config, "key").unwrap().keys().unwrap().remove(0);
        assert_eq!(key.secrets[0].digest, text.digest());
        let expected = json!({
            "id": *key.id, "tenant": "acme", "key": text.reveal(), "name": "ci",
            "status": "active", "last4": text.last4(), "models": ["a", "b"],
            "rpm": 60, "tpm": 100_000, "concurrency": null, "daily_tokens": null,
            "monthly_tokens": null, "daily_requests": null, "monthly_requests": null,
            "daily_usd": null, "monthly_usd": null, "clamp": false, "cut": false,
            "created_at": "2026-11-21T12:00:00Z",
            // The day begins in the configured zone.
            "expires_at": "2026-12-31T18:30:00Z", "suspended_at": null, "revoked_at": null, "old_key_until": null,
        });
        assert_eq!(made, expected);
        for format in ["table", "csv", "json"] {
            let listed = world.weir(&format!("list --format {format}"));
            assert!(listed.contains(&*key.id) && !listed.contains(text.reveal()), "{listed}");
        }
        let table = world.weir("create --tenant acme");
        assert!(table.contains("sk-weir-"), "{table}");
        let csv = world.weir("create --tenant acme --format csv");
        let cells: Vec<_> = csv.lines().nth(1).unwrap().split(',').collect();
        assert!(csv.starts_with("key,id,tenant,") && cells[0].len() == 48, "{csv}");
    }

    #[test]
    fn defaults_come_from_the_configuration_and_none_lifts_them() {
        let world = World::new();
        assert_eq!(world.json("create --tenant acme")["rpm"], json!(60));
        assert_eq!(world.json("create --tenant acme --rpm none")["rpm"], Value::Null);
        assert_eq!(world.json("create --tenant acme --rpm 7")["rpm"], json!(7));
        let tenant = open_store(&world.config, "key").unwrap().tenants().unwrap().remove(0);
        assert_eq!(tenant.limits, crate::tenancy::Limits::default());
    }

    #[test]
    fn a_text_that_did_not_leave_is_an_error_that_names_the_key_and_what_to_do() {
        /// Takes everything, and gives nothing on: what a buffer before a full disk or a closed pipe does.
        struct Lost(std::io::ErrorKind);
        impl Output for Lost {}
        impl std::io::Write for Lost {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(self.0.into())
            }
        }
        let world = World::new();
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::BrokenPipe] {
            let lose = |line: &str| {
                let args = typed(line).unwrap();
                let error = execute(args, &world.config, NOW_MS, &mut Lost(kind)).unwrap_err();
                // A broken pipe in the chain would pass for a reader that has seen enough.
                assert!(error.chain().all(|cause| !cause.is::<std::io::Error>()));
                error.to_string()
            };
            let error = lose("create --tenant acme");
            let keys = open_store(&world.config, "key").unwrap().keys().unwrap();
            let is_named = |key: &Key| error.contains(&format!("`weir key revoke {}`", key.id));
            assert!(keys.iter().any(is_named), "{error}");
            let id = &keys[0].id;
            let error = lose(&format!("rotate {id}"));
            let again = format!("`weir key rotate {id}`");
            assert!(error.contains(&again) && error.contains("old key ends at"), "{error}");
        }
    }

    #[test]
    fn set_changes_only_what_is_given() {
        let world = World::new();
        let mut key = world.json("create --tenant acme --name ci --models a --expires 90d");
        let id = key["id"].as_str().unwrap().to_owned();
        key.as_object_mut().unwrap().remove("key");
        for (options, name, value) in [
            ("--tpm 5", "tpm", json!(5)),
            ("--name other", "name", json!("other")),
            ("--models b,c", "models", json!(["b", "c"])),
            ("--models all", "models", Value::Null),
            ("--expires 1h", "expires_at", json!("2026-11-21T13:00:00Z")),
            ("--expires none", "expires_at", Value::Null),
            ("--rpm none", "rpm", Value::Null),
            ("--daily-usd 0.30", "daily_usd", json!("0.30")),
            ("--clamp", "clamp", json!(true)),
            ("--cut=true", "cut", json!(true)),
            ("--clamp=false", "clamp", json!(false)),
        ] {
            key[name] = value;
            assert_eq!(world.json(&format!("set {id} {options}")), key, "{options}");
            assert_eq!(world.json("list"), json!([key]), "{options}");
        }
    }

    #[test]
    fn a_key_for_every_model_says_so_to_people() {
        let world = World::new();
        world.weir("create --tenant acme");
        world.weir("create --tenant acme --models gpt-5.4,gpt-5");
        for format in ["table", "csv"] {
            let list = world.weir(&format!("list --format {format}"));
            let is_all = |line: &&str| line.contains("acme") && line.contains("all");
            assert_eq!(list.lines().filter(is_all).count(), 1, "{list}");
        }
        let names = ["gpt-5.4", "gpt-5"].map(str::to_owned);
        let config = Config::from_toml("", crate::config::Secrets::Optional).unwrap();
        let told = models::unserved(&names, &config);
        assert!(told.len() == 1 && told[0].contains("`gpt-5`"), "{told:?}");
    }

    #[test]
    fn a_rotated_key_keeps_its_id_and_a_revoked_one_is_over() {
        let world = World::new();
        let old = world.json("create --tenant acme");
        let id = old["id"].as_str().unwrap();
        let new = world.json(&format!("rotate {id} --overlap 2h"));
        assert_eq!(
            (&new["id"], &new["old_key_until"]),
            (&old["id"], &json!("2026-11-21T14:00:00Z"))
        );
        assert_ne!(new["key"], old["key"]);
        assert_eq!(world.json("list")[0]["last4"], new["last4"]);
        let at_once = world.json(&format!("rotate {id} --overlap 0s"));
        assert_eq!(at_once["old_key_until"], Value::Null);
        let revoked = world.json(&format!("revoke {id}"));
        assert_eq!(revoked["status"], json!("revoked"));
        assert_eq!(revoked["revoked_at"], json!("2026-11-21T12:00:00Z"));
        let said = world.weir(&format!("revoke {id}"));
        assert!(said.starts_with(&format!("key `{id}` of tenant `acme` is revoked: ")), "{said}");
        let error = world.weir_at(NOW_MS, &format!("rotate {id}")).unwrap_err().to_string();
        assert!(error.contains("`weir key create` makes a new one"), "{error}");
    }

    #[test]
    fn a_suspended_key_says_so_until_it_is_resumed() {
        let world = World::new();
        let mut key = world.json("create --tenant acme --expires 2h");
        let id = key["id"].as_str().unwrap().to_owned();
        key.as_object_mut().unwrap().remove("key");
        let suspended = world.json(&format!("suspend {id}"));
        assert_eq!(suspended["status"], json!("suspended"));
        assert_eq!(suspended["suspended_at"], json!("2026-11-21T12:00:00Z"));
        assert_eq!(suspended["expires_at"], key["expires_at"]);
        assert_eq!(world.json(&format!("resume {id}")), key);
        let said = world.weir(&format!("suspend {id}"));
        assert!(said.contains("is suspended") && said.contains("`weir key resume`"), "{said}");
        let again = world.weir_at(NOW_MS + 1_000, &format!("suspend {id}")).unwrap();
        assert!(again.contains("was suspended already, since 2026-11-21T12:00:00Z: "), "{again}");
        assert!(world.weir(&format!("resume {id}")).contains("works again"));
        assert!(world.weir(&format!("resume {id}")).contains("was not suspended, and works"));
        let late = world.weir_at(NOW_MS + 8_000_000, &format!("resume {id}")).unwrap();
        assert!(late.contains("--expires"), "{late}");
        world.weir(&format!("revoke {id}"));
        let error = world.weir_at(NOW_MS, &format!("resume {id}")).unwrap_err().to_string();
        assert!(error.contains("is revoked, and stays so"), "{error}");
    }

    #[test]
    fn a_list_is_as_wide_as_what_is_set() {
        let world = World::new();
        world.weir("create --tenant acme --rpm none");
        let table = world.weir("list");
        let heading = table.lines().next().unwrap();
        assert_eq!(
            heading.split_whitespace().collect::<Vec<_>>().join(" "),
            "id tenant status last 4 models"
        );
        let shown = world.weir("create --tenant acme --name ci --tpm 100_000");
        assert_eq!(shown.lines().count(), 8, "{shown}");
        let table = world.weir("list");
        assert!(table.contains("rpm 60, tpm 100,000") && table.contains("ci"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 100), "{table}");
        assert!(
            world.weir("list --format csv").starts_with("id,tenant,name,status,last4,models,rpm,")
        );
    }

    #[test]
    fn what_has_ended_can_be_deleted() {
        let world = World::new();
        let id = |key: &Value| key["id"].as_str().unwrap().to_owned();
        let left = |world: &World| world.json("list").as_array().unwrap().len();
        let keys: Vec<_> = ["", "--expires 1h", "", ""]
            .map(|more| world.json(&format!("create --tenant acme {more}")))
            .into();
        let first = id(&keys[0]);
        let error = world.weir_at(NOW_MS, &format!("delete {first}")).unwrap_err().to_string();
        assert!(error.contains("is active") && error.contains(&first), "{error}");
        assert_eq!(left(&world), 4);
        world.weir(&format!("revoke {first}"));
        let deleted = world.json(&format!("delete {first}"));
        assert_eq!((&deleted["id"], &deleted["status"]), (&keys[0]["id"], &json!("deleted")));
        assert_eq!(deleted["revoked_at"], json!("2026-11-21T12:00:00Z"));
        world.weir(&format!("revoke {}", id(&keys[2])));
        let days = |days: i64| NOW_MS + days * 86_400_000;
        assert_eq!(
            world.weir_at(days(89), "delete --ended-before 90d --format json").unwrap(),
            "[]\n"
        );
        let ended = world.weir_at(days(91), "delete --ended-before 90d --format json").unwrap();
        let ended: Value = serde_json::from_str(&ended).unwrap();
        let ids: Vec<_> = ended.as_array().unwrap().iter().map(id).collect();
        assert_eq!(ids, [id(&keys[1]), id(&keys[2])]);
        assert!(ended.as_array().unwrap().iter().all(|key| key["status"] == "deleted"));
        let last = id(&keys[3]);
        let said = world.weir(&format!("delete {last} --force"));
        let deleted = "is deleted: nothing opens it any more; what it used stays in the ledger";
        assert_eq!(said, format!("key `{last}` of tenant `acme` {deleted}\n"));
        assert_eq!(left(&world), 0);
        // A moment that is still to come ends nothing now.
        world.weir("create --tenant acme --expires 1h");
        world.weir("delete --ended-before 2031-01-01");
        assert_eq!(left(&world), 1);
    }

    #[test]
    fn the_list_says_what_has_expired_and_can_be_narrowed() {
        let world = World::new();
        world.weir("create --tenant acme --expires 1h");
        world.weir("create --tenant beta");
        let later = world.weir_at(NOW_MS + 3_600_000, "list --format json").unwrap();
        let later: Value = serde_json::from_str(&later).unwrap();
        assert_eq!(
            (&later[0]["status"], &later[1]["status"]),
            (&json!("expired"), &json!("active"))
        );
        assert_eq!(world.json("list --tenant beta").as_array().unwrap().len(), 1);
        let error = |line: &str| world.weir_at(NOW_MS, line).unwrap_err().to_string();
        assert_eq!(error("list --tenant acne"), "no tenant `acne`; did you mean `acme`?");
        let unknown = "no tenant `nobody`; `weir tenant list` shows them";
        assert_eq!(error("list --tenant nobody"), unknown);
        open_store(&world.config, "key").unwrap().delete_ended_keys(i64::MAX).unwrap();
        assert_eq!(world.json("list --tenant acme"), json!([]), "it is there, without keys");
    }

    #[test]
    fn a_model_that_no_upstream_serves_is_told_and_taken() {
        let mut world = World::new();
        let names = |text: &str| models(text).unwrap().0.unwrap();
        assert_eq!(
            models::unserved(&names("gpt-9"), &world.config),
            Vec::<String>::new(),
            "nobody knows"
        );
        let upstream = "[[upstream]]\nname = \"a\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
            models = [\"gpt-5.4\", \"o9\"]\n";
        let parsed = Config::from_toml(upstream, crate::config::Secrets::Optional).unwrap();
        world.config.upstreams = parsed.upstreams;
        let told = [
            "no upstream serves `gpt-5.5` yet; did you mean `gpt-5.4`?",
            "no upstream serves `claude` yet",
        ];
        assert_eq!(models::unserved(&names("o9,gpt-5.5,claude"), &world.config), told);
        let made = world.json("create --tenant acme --models nope");
        assert_eq!(made["models"], json!(["nope"]));
    }

    #[test]
    fn a_key_that_cannot_be_read_is_in_no_list_and_can_be_mended_revoked_and_deleted() {
        let world = World::new();
        let keys: Vec<Value> = (0..2).map(|_| world.json("create --tenant acme")).collect();
        let id = |at: usize| keys[at]["id"].as_str().unwrap();
        let damage = |set: &str| {
            let path = world.config.data.dir.join("weir.sqlite");
            let store = rusqlite::Connection::open(path).unwrap();
            let update = format!("UPDATE keys SET {set} WHERE id = '{}'", id(0));
            store.execute(&update, []).unwrap();
        };
        let listed = |world: &World| world.json("list").as_array().unwrap().len();
        damage("rpm = -1");
        assert_eq!(listed(&world), 1);
        let set = world.json(&format!("set {} --rpm 7", id(0)));
        assert_eq!((&set["rpm"], listed(&world)), (&json!(7), 2));
        damage("models = '['");
        assert_eq!(listed(&world), 1);
        assert_eq!(world.json(&format!("revoke {}", id(0)))["status"], "revoked");
        assert_eq!(world.json(&format!("delete {}", id(0)))["status"], "deleted");
        assert_eq!(listed(&world), 1);
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        let world = World::new();
        world.weir("create --tenant acme");
        for (line, error) in [
            ("set key_x --rpm 1", "no key `key_x`; `weir key list` shows them"),
            ("rotate key_x", "no key `key_x`"),
            ("revoke key_x", "no key `key_x`"),
            ("delete key_x", "no key `key_x`"),
            ("delete", "--ended-before"),
            ("delete key_x --ended-before 90d", "cannot be used with"),
            ("delete --ended-before long", "--ended-before"),
            ("set key_x", "nothing to change"),
            ("create --tenant acme --expires 2020-01-01", "has passed already"),
            ("create --tenant acme --expires soon", "--expires"),
            ("create", "--tenant"),
            ("create --tenant a/b", "A-Z a-z 0-9"),
            ("create --tenant acme --rpm 0", "`none` lifts the limit"),
            ("create --tenant acme --daily-usd 1,5", "dollars per day, an amount such as"),
            ("create --tenant acme --cut=maybe", "true, false"),
            ("create --tenant acme --models a,,b", "separated by commas"),
            ("create --tenant acme --models none", "`all` for every model"),
            ("set key_x --models none", "`all` for every model"),
            ("rotate key_x --overlap long", "a span such as 24h"),
        ] {
            let found = format!("{:#}", world.weir_at(NOW_MS, line).unwrap_err());
            assert!(found.contains(error), "{line}: {found}");
        }
        assert_eq!(world.json("list").as_array().unwrap().len(), 1);
    }
}
