//! Results as a table, as CSV or as JSON, from the same serialisable lines.

mod table;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::printable::written_out;

/// In which form results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// With a head line, quoted as in RFC 4180; no cell of it is a formula to a spreadsheet
    Csv,
    /// An array of objects, or one object
    Json,
}

/// A field of the lines to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The field's name, in JSON and CSV.
    pub name: &'static str,
    /// What stands above it in a table; a column without is in CSV and JSON only.
    pub heading: Option<&'static str>,
    /// It is in CSV.
    is_field: bool,
    /// 0: a table always has it. Others are left out where nothing stands in them, and where a terminal is
    /// too narrow: of those the highest first.
    rank: u8,
    /// It stands at the right of its column, as numbers do.
    is_amount: bool,
}

/// Where results go.
pub(crate) trait Output: Write {
    /// How many characters fit into a line; `None`: any number.
    fn width(&self) -> Option<usize> {
        None
    }
}

impl Output for Vec<u8> {}

/// Standard output, which may be a terminal.
struct Stdout {
    out: io::BufWriter<io::StdoutLock<'static>>,
    width: Option<usize>,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Output for Stdout {
    fn width(&self) -> Option<usize> {
        self.width
    }
}

/// What stands in a table where there is no value.
const NO_VALUE: &str = "-";

impl Column {
    /// A column that every table has.
    pub(crate) const fn shown(name: &'static str, heading: &'static str) -> Self {
        Self { name, heading: Some(heading), is_field: true, rank: 0, is_amount: false }
    }

    /// A column that a table has where something stands in it, and where there is room. The higher the rank
    /// is, the earlier it goes.
    pub(crate) const fn ranked(name: &'static str, heading: &'static str, rank: u8) -> Self {
        Self { rank, ..Self::shown(name, heading) }
    }

    /// A column for programs.
    pub(crate) const fn hidden(name: &'static str) -> Self {
        Self { heading: None, ..Self::shown(name, "") }
    }

    /// The same column for people only.
    pub(crate) const fn for_people(self) -> Self {
        Self { is_field: false, ..self }
    }

    /// The same column with what is text, and still an amount.
    pub(crate) const fn amount(self) -> Self {
        Self { is_amount: true, ..self }
    }

    /// Whether a table is better off without it.
    fn is_left_out(&self, lines: &[Value]) -> bool {
        self.rank > 0 && lines.iter().all(|line| is_blank(&line[self.name]))
    }
}

/// Runs `write` with standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn to_stdout(
    write: impl FnOnce(&mut dyn Output) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stdout = io::stdout().lock();
    let size = terminal_size::terminal_size_of(&stdout);
    let width = size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0);
    let mut out = Stdout { out: io::BufWriter::new(stdout), width };
    unless_broken(write(&mut out).and_then(|()| Ok(out.flush()?)))
}

fn unless_broken(result: anyhow::Result<()>) -> anyhow::Result<()> {
    result.or_else(|error| {
        let broken = |io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe;
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(broken) {
            return Ok(());
        }
        Err(error)
    })
}

/// Tells the person at the terminal something that is no result.
pub(crate) fn note(text: &str) {
    // There is nobody left to tell if that fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A number of things, whose name takes an s unless there is one of them.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(&count.to_string()))
}

/// Writes lines, each an object with the columns' fields. `totals` ends a table, and only that.
/// Without lines a table is nothing at all, CSV its head line, JSON an empty array.
pub(crate) fn write_lines<T: Serialize>(
    out: &mut dyn Output,
    format: Format,
    columns: &[Column],
    lines: &[T],
    totals: Option<&T>,
) -> anyhow::Result<()> {
    match format {
        Format::Table if lines.is_empty() => Ok(()),
        Format::Table => {
            let lines = lines.iter().chain(totals).map(serde_json::to_value);
            table::write_table(out, columns, &lines.collect::<Result<Vec<_>, _>>()?)
        }
        Format::Csv => write_csv(out, columns, lines),
        Format::Json => write_json(out, lines),
    }
}

/// Writes one thing: a table of names and values, or what [`write_lines`] would, though JSON
/// without the array.
pub(crate) fn write_one<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    columns: &[Column],
    one: &T,
) -> anyhow::Result<()> {
    match format {
        Format::Csv => write_csv(out, columns, std::slice::from_ref(one)),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, one)?;
            Ok(writeln!(out)?)
        }
        Format::Table => {
            let line = [serde_json::to_value(one)?];
            let there = || columns.iter().filter(|column| !column.is_left_out(&line));
            let shown = || there().filter_map(|column| Some((column.name, column.heading?)));
            let width = shown().map(|(_, heading)| heading.len()).max().unwrap_or(0);
            for (name, heading) in shown() {
                writeln!(out, "{heading:width$}  {}", table_text(&line[0][name]))?;
            }
            Ok(())
        }
    }
}

/// Whether it says no more than that there is nothing.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_so) => !is_so,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn write_csv<T: Serialize>(
    out: &mut dyn Write,
    columns: &[Column],
    lines: &[T],
) -> anyhow::Result<()> {
    write_csv_head(out, columns)?;
    lines.iter().try_for_each(|line| write_csv_line(out, columns, line))
}

/// The line that names the columns.
pub(crate) fn write_csv_head(out: &mut dyn Write, columns: &[Column]) -> anyhow::Result<()> {
    let fields = columns.iter().filter(|column| column.is_field);
    let names: Vec<_> = fields.map(|column| column.name).collect();
    Ok(writeln!(out, "{}", names.join(","))?)
}

/// One line under it.
pub(crate) fn write_csv_line<T: Serialize>(
    out: &mut dyn Write,
    columns: &[Column],
    line: &T,
) -> anyhow::Result<()> {
    let line = serde_json::to_value(line)?;
    let fields = columns.iter().filter(|column| column.is_field);
    let cells: Vec<_> = fields.map(|column| csv_cell(&line[column.name])).collect();
    Ok(writeln!(out, "{}", cells.join(","))?)
}

/// An object a line, so that `grep` and `diff` have something to hold on to.
fn write_json<T: Serialize>(out: &mut dyn Write, lines: &[T]) -> anyhow::Result<()> {
    write!(out, "[")?;
    for (place, line) in lines.iter().enumerate() {
        write!(out, "{}", if place == 0 { "\n" } else { ",\n" })?;
        serde_json::to_writer(&mut *out, line)?;
    }
    Ok(writeln!(out, "{}", if lines.is_empty() { "]" } else { "\n]" })?)
}

/// A value without anything that is not its own: no quotes, no separators; nothing for null.
pub(crate) fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain_text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A value for people. What does not show is written out: a model's name can come from elsewhere, and a
/// terminal does what it is told.
fn table_text(value: &Value) -> String {
    match value {
        Value::Number(number) => grouped(&number.to_string()),
        Value::Null => NO_VALUE.to_owned(),
        // As options take it.
        Value::Array(list) => list.iter().map(table_text).collect::<Vec<_>>().join(","),
        other => written_out(&plain_text(other), |_| false),
    }
}

/// Separates the thousands of a whole number.
pub(crate) fn grouped(number: &str) -> String {
    let digits = number.trim_start_matches('-');
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut text = number[..number.len() - digits.len()].to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a spreadsheet takes for a formula where it is a cell's first character, also in full width.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
/// What is left out before that character.
const BLANK: [char; 3] = ['\t', '\r', '\n'];
/// What ends a cell: in half of the world a spreadsheet separates by semicolons, and then heeds no quotes
/// that begin within a cell.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// A cell of CSV. Texts come from tenants and upstreams, and whoever opens the file runs what they say, or
/// sees what they want. What RFC 4180 has quotes for stays; other characters that do not show are written out.
fn csv_cell(value: &Value) -> String {
    let text = plain_text(value);
    let is_text = !matches!(value, Value::Null | Value::Bool(_) | Value::Number(_));
    let shown = |text: &str| written_out(text, |char| BLANK.contains(&char));
    if is_text { quoted(&defused(shown(&text))) } else { text }
}

/// A text that is no formula wherever a cell may begin (OWASP, "CSV injection"): an apostrophe stands
/// before what would begin one. A negative number is none.
fn defused(text: String) -> String {
    if !text.contains(FORMULA) && !text.starts_with(BLANK) || is_decimal(&text) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 1);
    if text.starts_with(BLANK) {
        safe.push('\'');
    }
    let mut begins_cell = true;
    for char in text.chars() {
        if begins_cell && FORMULA.contains(&char) {
            safe.push('\'');
        }
        safe.push(char);
        begins_cell = SEPARATORS.contains(&char);
    }
    safe
}

/// Whether it is a number as Weir writes them.
fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    are_digits(whole.strip_prefix('-').unwrap_or(whole)) && are_digits(fraction)
}

/// A field of CSV (RFC 4180 §2): quoted where it holds a separator, a quote or a line break.
fn quoted(text: &str) -> String {
    if text.contains('"') || text.contains(SEPARATORS) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::shown("name", "name"),
        Column::shown("count", "how many"),
        Column::hidden("list"),
        Column::hidden("object"),
    ];

    fn written(format: Format, lines: &[Value], totals: Option<&Value>) -> String {
        let mut out = Vec::new();
        write_lines(&mut out, format, &COLUMNS, lines, totals).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let lines = [
            json!({"name": "a,b", "count": 1234567, "list": ["x", "y"], "object": {"k": 1}}),
            json!({"name": "say \"hi\"\nthere", "count": null, "list": [], "object": null}),
        ];
        let expected = "name,count,list,object\n\
            \"a,b\",1234567,x y,\"{\"\"k\"\":1}\"\n\
            \"say \"\"hi\"\"\nthere\",,,\n";
        assert_eq!(written(Format::Csv, &lines, Some(&lines[0])), expected);
    }

    #[test]
    fn no_text_is_a_formula_to_a_spreadsheet() {
        for (value, cell) in [
            (json!("acme"), "acme"),
            (json!("a=b-c@d+e"), "a=b-c@d+e"),
            (json!("=1+1"), "'=1+1"),
            (json!("+1"), "'+1"),
            (json!("-1+cmd|'/C calc'!A0"), "'-1+cmd|'/C calc'!A0"),
            (json!("@SUM(A1)"), "'@SUM(A1)"),
            (json!("\u{ff1d}1+1"), "'\u{ff1d}1+1"),
            (json!("\u{ff0b}1"), "'\u{ff0b}1"),
            (json!("\u{ff0d}x"), "'\u{ff0d}x"),
            (json!("\u{ff20}x"), "'\u{ff20}x"),
            (json!("\t=1"), "\"'\t'=1\""),
            (json!("\r=1"), "\"'\r'=1\""),
            (json!("\nx"), "\"'\nx\""),
            (json!("-"), "'-"),
            (json!("--"), "'--"),
            (json!("-.5"), "'-.5"),
            (json!("-1."), "'-1."),
            (json!("-1e5"), "'-1e5"),
            // Numbers, also those that are written as text.
            (json!(-1), "-1"),
            (json!(-0.5), "-0.5"),
            (json!("-1"), "-1"),
            (json!("-12.50"), "-12.50"),
            (json!("0.000123"), "0.000123"),
            (json!(true), "true"),
            (json!(null), ""),
            // Wherever a cell may begin, by whatever it is separated.
            (json!("a,=1"), "\"a,'=1\""),
            (json!("a;=1;b"), "\"a;'=1;b\""),
            (json!("a;b"), "\"a;b\""),
            (json!("a\t@x"), "\"a\t'@x\""),
            (json!("a\r\n=x"), "\"a\r\n'=x\""),
            (json!("a\rb"), "\"a\rb\""),
            (json!("\",=1"), "\"\"\",'=1\""),
            (json!(["=1", "b"]), "'=1 b"),
            // What does not show is written out, and begins no formula behind it.
            (json!("a\u{202e}b"), "a\\u{202e}b"),
            (json!("\u{200b}=1"), "\\u{200b}=1"),
            (json!("\u{1b}[1m"), "\\u{1b}[1m"),
            (json!({"x": "y;=1"}), "\"{\"\"x\"\":\"\"y;'=1\"\"}\""),
        ] {
            assert_eq!(csv_cell(&value), cell, "{value}");
        }
    }

    #[test]
    fn json_is_an_array_and_keeps_the_numbers() {
        let lines = [json!({"count": 1234567}), json!({"count": null})];
        let text = written(Format::Json, &lines, Some(&lines[0]));
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), lines);
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn a_table_aligns_numbers_groups_thousands_and_ends_with_the_totals() {
        let lines = [json!({"name": "a\u{1b}[1m\u{202e}", "count": 1234567}), json!({"name": "b"})];
        let totals = json!({"name": "total", "count": 1000});
        let text = written(Format::Table, &lines, Some(&totals));
        let expected = "name                 how many\n\
            a\\u{1b}[1m\\u{202e}  1,234,567\n\
            b                           -\n\
            total                   1,000\n";
        assert_eq!(text, expected);
        assert!(!text.contains("list"), "{text}");
    }

    #[test]
    fn nothing_is_an_empty_table_a_head_line_and_an_empty_array() {
        assert_eq!(written(Format::Table, &[], None), "");
        assert_eq!(written(Format::Csv, &[], None), "name,count,list,object\n");
        assert_eq!(written(Format::Json, &[], None), "[]\n");
    }

    #[test]
    fn one_thing_is_names_and_values() {
        let one = json!({"name": "x", "count": 12345, "list": null});
        let mut out = Vec::new();
        write_one(&mut out, Format::Table, &COLUMNS, &one).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name      x\nhow many  12,345\n");
    }

    #[test]
    fn of_one_thing_what_is_not_there_is_left_out_and_programs_get_it() {
        let columns = [
            Column::shown("name", "name"),
            Column::ranked("limit", "limit", 1),
            Column::ranked("text", "text", 1).for_people(),
        ];
        let written = |format, one: Value| {
            let mut out = Vec::new();
            write_one(&mut out, format, &columns, &one).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Format::Table, json!({"name": "x", "limit": null})), "name  x\n");
        let full = || json!({"name": "x", "limit": 7, "text": "y"});
        assert_eq!(written(Format::Table, full()), "name   x\nlimit  7\ntext   y\n");
        assert_eq!(written(Format::Csv, full()), "name,limit\nx,7\n");
    }

    #[test]
    fn one_thing_is_singular() {
        for (count, noun, expected) in
            [(0, "row", "0 rows"), (1, "row", "1 row"), (1_234, "row", "1,234 rows")]
        {
            assert_eq!(counted(count, noun), expected);
        }
    }

    #[test]
    fn thousands_are_separated() {
        for (number, expected) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567", "-1,234,567"),
            ("1.5", "1.5"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_others_are() {
        let failed = |kind| unless_broken(Err(anyhow::Error::from(io::Error::from(kind))));
        assert!(failed(io::ErrorKind::BrokenPipe).is_ok());
        assert!(failed(io::ErrorKind::StorageFull).is_err());
    }
}
