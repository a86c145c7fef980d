//! The table of docs/providers.md that says which provider's usage is read, beside the fixtures that
//! prove it.

use std::collections::BTreeSet;
use std::path::Path;

/// Directories of fixtures that are about something else than one provider's words.
const KINDS: [&str; 15] = [
    "answers",
    "audio",
    "cases",
    "completions",
    "documents",
    "embeddings",
    "ends",
    "errors",
    "framing",
    "hidden",
    "images",
    "moderations",
    "pictures",
    "responses",
    "suspect",
];

#[test]
fn every_provider_of_the_table_has_its_fixtures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let streams = root.join("tests/fixtures/streams");
    let docs = std::fs::read_to_string(root.join("docs/providers.md")).expect("it is there");
    let table = docs.split("| Provider |").nth(1).expect("the table").split("\n\n").next();
    let mut named = BTreeSet::new();
    for row in table.into_iter().flat_map(str::lines).skip(2) {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().expect("a column");
        let fixtures: Vec<_> = last.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in &fixtures {
            let (dir, _) = name.split_once('/').expect(name);
            let there =
                ["sse", "body"].iter().any(|it| streams.join(format!("{name}.{it}")).exists());
            assert!(there, "no fixture {name}");
            named.insert(dir.to_owned());
        }
    }
    let dirs = std::fs::read_dir(&streams).expect("the fixtures are in the repository");
    for dir in dirs {
        let name = dir.expect("an entry").file_name().into_string().expect("ASCII");
        assert!(KINDS.contains(&&*name) || named.contains(&name), "{name} is not in the table");
    }
}
