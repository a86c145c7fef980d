//! The architecture as a test: what `ARCHITECTURE.md` says of the source tree, read from the source tree.
//! Each rule lists everything that breaks it, so that one run is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const MAX_LINES: usize = 400;
/// The stages of a request's life. Only `gateway` knows them all, only `refusal` their errors.
const STAGES: [&str; 6] = ["identify", "inspect", "route", "admit", "forward", "meter"];

/// One file under `src/`.
struct Source {
    /// Relative to `src/`, such as `admit/rate.rs`.
    path: String,
    text: String,
    /// Without comments, and without the tests at its end.
    code: String,
    is_test: bool,
}

impl Source {
    /// The module right under the crate's root that this file belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a split has a first part")
    }

    /// How many `super` lead from this file's own module to the crate's root.
    fn depth(&self) -> usize {
        self.path.split('/').count()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of this repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&src).expect("found below it").to_str().expect("UTF-8");
            (path.to_owned(), read(file))
        })
        .collect();
    let tests = test_modules(&texts);
    let sources = texts.into_iter().map(|(path, text)| {
        let is_test = tests
            .iter()
            .any(|dir| path == format!("{dir}.rs") || path.starts_with(&format!("{dir}/")));
        Source { code: code(&text), path, text, is_test }
    });
    sources.collect()
}

/// The paths, without `.rs`, of modules that are compiled for tests only.
fn test_modules(texts: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts {
        let dir = path.trim_end_matches(".rs");
        for rest in text.split("#[cfg(test)]\n").skip(1) {
            let line = rest.lines().next().unwrap_or_default();
            if let Some(name) = declared(line) {
                found.push(format!("{dir}/{name}"));
            }
        }
    }
    found
}

/// The name in `mod name;`.
fn declared(line: &str) -> Option<&str> {
    let (before, rest) = line.trim().split_once("mod ")?;
    let is_declaration = before.is_empty() || before.starts_with("pub");
    rest.strip_suffix(';').filter(|_| is_declaration)
}

/// What the compiler sees outside of tests: comments blanked, the tests at the end cut off.
fn code(text: &str) -> String {
    let untested = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = untested.lines().map(|line| match line.trim_start().starts_with("//") {
        true => "",
        false => line.split(" // ").next().unwrap_or(line),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The tests at a file's end.
fn tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or("", |(_, tests)| tests)
}

/// The modules that `lib.rs` declares, in reading order.
fn order() -> Vec<String> {
    let text = read(&root().join("src/lib.rs"));
    text.lines().filter_map(declared).map(str::to_owned).collect()
}

/// The names that directly follow `prefix` in paths, also those of a group: `crate::{a, b::c}`.
fn named_after<'c>(code: &'c str, prefix: &str) -> BTreeSet<&'c str> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let is_part = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if is_part {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(head(rest)),
        }
    }
    names
}

fn head(path: &str) -> Option<&str> {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    Some(&path[..end]).filter(|name| !name.is_empty())
}

fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut heads) = (0, 0, Vec::new());
    for (at, one) in group.char_indices() {
        match one {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(head(group[from..at].trim_start()));
                from = at + 1;
                if one == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_begins_with_why_it_exists() {
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches"] {
        let dir = root().join(dir);
        if dir.exists() {
            rust_files(&dir, &mut files);
        }
    }
    assert!(files.len() > 100, "only {} files were found", files.len());
    let is_muted = |file: &&PathBuf| {
        let text = read(file);
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_none_or(|why| why.len() < 10)
    };
    let broken: Vec<_> = files.iter().filter(is_muted).map(|f| f.display().to_string()).collect();
    assert_none(&broken, "these files have no `//!` header that says why they exist");
}

#[test]
fn arrows_point_down_the_order_of_lib_rs() {
    let order = order();
    assert!(order.len() > 10, "lib.rs declares {order:?}");
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path != "main.rs") {
        let Some(from) = place(source.module()) else {
            assert_eq!(source.path, "lib.rs", "a file that lib.rs does not declare");
            continue;
        };
        let used = named_after(&source.code, "crate::");
        for name in used {
            match place(name) {
                Some(to) if to >= from => {}
                Some(_) => broken.push(format!("{} uses crate::{name}", source.path)),
                None => broken.push(format!("{} uses crate::{name}, no module", source.path)),
            }
        }
    }
    assert_none(&broken, "lib.rs has these the other way round");
}

/// `super` chains that reach the crate's root would hide an arrow from the test above.
#[test]
fn the_crate_s_root_is_always_called_crate() {
    let reaches_root = |source: &&Source| {
        source.path != "lib.rs" && source.code.contains(&"super::".repeat(source.depth()))
    };
    let sources = sources();
    let broken: Vec<_> = sources.iter().filter(reaches_root).map(|s| s.path.clone()).collect();
    assert_none(&broken, "write `crate::` in these files");
}

#[test]
fn stages_do_not_know_each_other() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| STAGES.contains(&source.module())) {
        let mut known = named_after(&source.code, "crate::");
        known.remove(source.module());
        for name in known {
            if STAGES.contains(&name) || ["gateway", "refusal", "server", "cli"].contains(&name) {
                broken.push(format!("{} knows {name}", source.path));
            }
        }
    }
    let modules: BTreeSet<String> = order().into_iter().collect();
    let missing = STAGES.iter().filter(|stage| !modules.contains(**stage));
    broken.extend(missing.map(|stage| format!("{stage} is gone")));
    assert_none(&broken, "a stage knows none of the others");
}

/// Among the parts of one module; the module itself may use its parts and they what it declares.
#[test]
fn there_are_no_circles_among_siblings() {
    let sources = sources();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test && source.path.contains('/')) {
        let (dir, _) = source.path.split_once('/').expect("just filtered");
        let part = |path: &str| path[dir.len() + 1..].split(['/', '.']).next().map(str::to_owned);
        let Some(own) = part(&source.path) else { continue };
        let absolute = named_after(&source.code, &format!("crate::{dir}::"));
        let relative = named_after(&source.code, &"super::".repeat(source.depth() - 1));
        let siblings = absolute.union(&relative).filter(|name| {
            let path = format!("{dir}/{name}");
            **name != own
                && sources.iter().any(|other| {
                    other.path == format!("{path}.rs")
                        || other.path.starts_with(&format!("{path}/"))
                })
        });
        let known: BTreeSet<_> = siblings.map(|name| format!("{dir}/{name}")).collect();
        uses.entry(format!("{dir}/{own}")).or_default().extend(known);
    }
    assert!(uses.len() > 50, "only {} parts were found", uses.len());
    // What uses nothing that is left is in no circle; whatever stays in the end is.
    loop {
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.retain(|_, used| used.iter().any(|name| left.contains(name)));
        if uses.len() == left.len() {
            break;
        }
    }
    let broken: Vec<_> = uses.iter().map(|(name, used)| format!("{name} uses {used:?}")).collect();
    assert_none(&broken, "these are in a circle, or use one");
}

/// Another store is another implementation, and nobody else has to change.
#[test]
fn databases_are_the_store_s_alone() {
    let knows_sqlite = |source: &&Source| {
        let is_outside = !source.is_test && !source.path.starts_with("store/sqlite");
        is_outside && source.code.contains("rusqlite")
    };
    let sources = sources();
    let broken: Vec<_> = sources.iter().filter(knows_sqlite).map(|s| s.path.clone()).collect();
    assert_none(&broken, "only `store/sqlite` knows SQLite");
}

#[test]
fn files_stay_short_enough_to_read() {
    let sources = sources();
    let long = sources.iter().filter(|source| !source.is_test).filter_map(|source| {
        let lines = source.code.lines().count();
        (lines > MAX_LINES).then(|| format!("{} has {lines} lines before its tests", source.path))
    });
    assert_none(&long.collect::<Vec<_>>(), &format!("split what has more than {MAX_LINES} lines"));
    let mod_rs = sources.iter().filter(|source| source.path.ends_with("mod.rs"));
    let mod_rs: Vec<_> = mod_rs.map(|source| source.path.clone()).collect();
    assert_none(&mod_rs, "`foo.rs` beside `foo/`, not `foo/mod.rs`");
}

#[test]
fn nothing_is_unsafe_and_nothing_is_left_to_do() {
    let manifest = read(&root().join("Cargo.toml"));
    assert!(manifest.contains("unsafe_code = \"forbid\""), "Cargo.toml forbids unsafe code");
    let words =
        ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe", "todo!(", "unimplemented!("];
    let mut broken = Vec::new();
    for source in sources() {
        let found = words.iter().filter(|word| source.text.contains(**word));
        broken.extend(found.map(|word| format!("{} has `{word}`", source.path)));
    }
    assert_none(&broken, "none of these");
}

#[test]
fn printing_is_left_to_the_command_line() {
    let prints = |source: &&Source| {
        source.module() != "cli"
            && !source.is_test
            && ["println!(", "eprintln!(", "print!("].iter().any(|word| source.code.contains(word))
    };
    let sources = sources();
    let broken: Vec<_> = sources.iter().filter(prints).map(|s| s.path.clone()).collect();
    assert_none(&broken, "results are printed by `cli`, everything else is logged");
}

/// A test that draws by itself fails now and then, and nobody can repeat it.
#[test]
fn tests_draw_from_seeds() {
    let cargo = read(&root().join(".cargo/config.toml"));
    for seed in ["PROPTEST_RNG_SEED", "SHUTTLE_RANDOM_SEED"] {
        assert!(cargo.contains(&format!("\n{seed} = \"")), ".cargo/config.toml sets {seed}");
    }
    let draws = ["KeyText::generate(", "getrandom::", "RandomState"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path != "identify/key_text.rs") {
        let tests = if source.is_test { &*source.text } else { tests(&source.text) };
        let found = draws.iter().filter(|draw| tests.contains(**draw));
        broken.extend(found.map(|draw| format!("{} has `{draw}` in its tests", source.path)));
    }
    assert_none(&broken, "take a fixed seed or number");
}

#[test]
fn what_users_look_for_is_there() {
    for file in ["CHANGELOG.md", "LICENSE", "config/weir.toml", "docs/metrics.md"] {
        assert!(!read(&root().join(file)).trim().is_empty(), "{file} is empty");
    }
}

/// Files and tests between backticks: a path is below `src/` or this repository, a name of four words is a test.
#[test]
fn what_the_architecture_names_is_there() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests/it"), &mut files);
    let code: String = files.iter().map(|file| read(file)).collect();
    let (mut broken, mut known) = (Vec::new(), 0);
    for named in text.split('`').skip(1).step_by(2) {
        let is_path = [".rs", ".md", ".toml"].iter().any(|end| named.ends_with(end));
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_there = if is_path && !named.contains(['*', ' ']) {
            root().join("src").join(named).exists() || root().join(named).exists()
        } else if named.chars().all(is_word) && named.split('_').count() > 3 {
            code.contains(&format!("fn {named}("))
        } else {
            continue;
        };
        known += 1;
        broken.extend((!is_there).then(|| named.to_owned()));
    }
    assert!(known > 100, "only {known} names were found");
    assert_none(&broken, "ARCHITECTURE.md names these, and they are not there");
}
