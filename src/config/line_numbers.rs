//! Where in a file a key stands, so that an error leads to its line.

use toml::de::{DeArray, DeTable, DeValue};

/// The line, from 1, of the key at `path`, such as `upstream[1].base_url`; where it is missing, that of the
/// innermost table that should have it. `None`: nothing of it stands in the text, or that is no TOML.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let at = place_in_table(table.get_ref(), path)?;
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// In bytes from the beginning of the text.
fn place_in_table(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let within = match (value.get_ref(), rest.strip_prefix('.')) {
        (DeValue::Table(table), Some(rest)) => place_in_table(table, rest),
        (DeValue::Array(array), None) => place_in_array(array, rest),
        _ => None,
    };
    within.or(Some(key.span().start))
}

fn place_in_array(array: &DeArray<'_>, path: &str) -> Option<usize> {
    let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
    let element = array.get(number.parse::<usize>().ok()?)?;
    let within = match (element.get_ref(), rest.strip_prefix('.')) {
        (DeValue::Table(table), Some(rest)) => place_in_table(table, rest),
        _ => None,
    };
    within.or(Some(element.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_line_and_a_missing_one_that_of_its_table() {
        let text = "[server]\nlisten = \"x\"\nworkers = 1\n\n[[upstream]]\nname = \"a\"\n\
            [[upstream]]\nname = \"b\"\nmodels = [\n  \"m\",\n  { name = 5 },\n]\n\
            limits.rpm = 1\n";
        for (path, line) in [
            ("server", Some(1)),
            ("server.listen", Some(2)),
            ("server.workers", Some(3)),
            ("server.missing", Some(1)),
            ("upstream[0].name", Some(6)),
            ("upstream[1]", Some(7)),
            ("upstream[1].name", Some(8)),
            ("upstream[1].base_url", Some(7)),
            ("upstream[1].models[1].name", Some(11)),
            ("upstream[1].limits.rpm", Some(13)),
            ("upstream[7].name", Some(5)),
            ("admin.listen", None),
            ("", None),
        ] {
            assert_eq!(line_of(text, path), line, "{path}");
        }
        assert_eq!(line_of("server = {", "server"), None);
    }
}
