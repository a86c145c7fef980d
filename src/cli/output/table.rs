//! A table for people: a line for each thing, so that `grep` finds whole ones, and no wider than it must be.
//! Columns in which nothing stands are left out, and on a terminal that is too narrow those that matter least.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{Column, Output, note, table_text};

/// Between two columns.
const GAP: usize = 2;

/// A column as it is being laid out.
#[derive(Debug)]
struct Shown {
    heading: &'static str,
    rank: u8,
    is_number: bool,
    /// Of the heading and all cells, in cells of a terminal.
    width: usize,
    cells: Vec<String>,
}

/// Writes the lines, each an object, under their headings.
pub(super) fn write_table(
    out: &mut dyn Output,
    columns: &[Column],
    lines: &[Value],
) -> anyhow::Result<()> {
    let shown = columns.iter().filter(|column| !column.is_left_out(lines));
    let mut shown: Vec<_> = shown.filter_map(|column| Shown::of(column, lines)).collect();
    if let Some(most) = out.width() {
        let left_out = fit(&mut shown, most);
        if !left_out.is_empty() {
            note(&format!(
                "the terminal is too narrow for {}; `--format csv` has everything",
                left_out.join(", ")
            ));
        }
    }
    write_line(out, shown.iter().map(|column| (column, column.heading)))?;
    for at in 0..lines.len() {
        write_line(out, shown.iter().map(|column| (column, &*column.cells[at])))?;
    }
    Ok(())
}

/// Takes columns out until the others fit, those of the highest rank first and of equals the last. Returns
/// their headings, in the order of the table.
fn fit(shown: &mut Vec<Shown>, most: usize) -> Vec<&'static str> {
    let width = |shown: &[Shown]| shown.iter().map(|column| column.width + GAP).sum::<usize>();
    let mut left_out = Vec::new();
    // There is no gap behind the last one.
    while width(shown) > most.saturating_add(GAP) {
        let ranked = shown.iter().enumerate().filter(|(_, column)| column.rank > 0);
        let Some((at, _)) = ranked.max_by_key(|(at, column)| (column.rank, *at)) else { break };
        left_out.push(shown.remove(at).heading);
    }
    left_out.reverse();
    left_out
}

fn write_line<'a>(
    out: &mut dyn Output,
    cells: impl Iterator<Item = (&'a Shown, &'a str)>,
) -> anyhow::Result<()> {
    let mut line = String::new();
    for (column, text) in cells {
        let blank = " ".repeat(column.width.saturating_sub(text.width()));
        match column.is_number {
            true => line.extend([&*blank, text]),
            false => line.extend([text, &*blank]),
        }
        line.push_str(&" ".repeat(GAP));
    }
    Ok(writeln!(out, "{}", line.trim_end())?)
}

impl Shown {
    /// `None`: it is for programs only.
    fn of(column: &Column, lines: &[Value]) -> Option<Self> {
        let heading = column.heading?;
        let values = || lines.iter().map(|line| &line[column.name]);
        let cells: Vec<_> = values().map(table_text).collect();
        let widest = cells.iter().map(|cell| cell.width()).max().unwrap_or(0);
        let width = heading.width().max(widest);
        let is_number = column.is_amount || values().any(Value::is_number);
        Some(Self { heading, rank: column.rank, is_number, width, cells })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use serde_json::json;

    use super::*;

    /// A terminal of that many columns.
    struct Terminal(Vec<u8>, usize);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Terminal {
        fn width(&self) -> Option<usize> {
            Some(self.1)
        }
    }

    const COLUMNS: [Column; 4] = [
        Column::shown("name", "name"),
        Column::ranked("color", "color", 2),
        Column::ranked("count", "how many", 1),
        Column::ranked("flag", "flag", 1),
    ];

    fn table(width: usize, lines: &[Value]) -> String {
        let mut terminal = Terminal(Vec::new(), width);
        write_table(&mut terminal, &COLUMNS, lines).unwrap();
        String::from_utf8(terminal.0).unwrap()
    }

    #[test]
    fn what_matters_least_is_left_out_where_a_terminal_is_too_narrow() {
        let lines = [json!({"name": "水", "color": "blue", "count": 1234, "flag": "x"})];
        for (width, expected) in [
            (27, "name  color  how many  flag\n水    blue      1,234  x\n"),
            (26, "name  how many  flag\n水       1,234  x\n"),
            (20, "name  how many  flag\n水       1,234  x\n"),
            (19, "name  how many\n水       1,234\n"),
            (13, "name\n水\n"),
            // It is what it is.
            (1, "name\n水\n"),
        ] {
            assert_eq!(table(width, &lines), expected, "{width}");
        }
    }

    #[test]
    fn columns_in_which_nothing_stands_are_left_out() {
        let line = |color: Value, flag: Value| json!({"name": "a", "color": color, "count": 0, "flag": flag});
        for (lines, heading) in [
            (vec![line(json!(null), json!(false))], "name"),
            (vec![line(json!(""), json!([]))], "name"),
            (vec![line(json!(null), json!(false)), line(json!("red"), json!(null))], "name  color"),
            (vec![json!({"name": null})], "name"),
        ] {
            assert_eq!(table(80, &lines).lines().next(), Some(heading), "{lines:?}");
        }
    }
}
