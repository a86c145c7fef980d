//! `weir export`: the ledger's rows as a file for other programs, oldest first. It is read and written row by
//! row, so that its size does not matter, and has its name once it is whole.

#[cfg(feature = "parquet")]
mod parquet;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::output_file::{OutputFile, Target};
use crate::ledger::report::usage;
use crate::store::Request;
use crate::store::Store;
use crate::usage::End;

#[cfg(feature = "parquet")]
use self::parquet::ParquetRows;
use super::Misuse;
use super::filter::{FilterArgs, check_names};
use super::open::open_ledger;
use super::output::{counted, note, write_csv_head, write_csv_line};
use super::progress::bar;
use super::requests::{COLUMNS, end_parser};

/// Write single requests to a CSV, NDJSON or Parquet file, oldest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where they go; `-` for standard output. It replaces a file of that name once it is whole, and is written
    /// straight into a pipe or a device
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only requests that ended like this
    #[arg(long, value_name = "E", value_parser = end_parser())]
    end: Option<End>,
    /// What is written [default: by the file's name]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    /// With a head line, quoted as in RFC 4180
    Csv,
    /// A JSON object a line, as `weir requests --format json` has them
    Ndjson,
    /// Apache Parquet, compressed with Snappy
    Parquet,
}

/// Where rows go.
enum Rows<W: Write + Send> {
    Csv(W),
    Ndjson(W),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRows<W>>),
}

/// Writes the file.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    execute(args, config, Clock::system().now().unix_ms)
}

fn execute(args: Args, config: &Config, now_ms: i64) -> anyhow::Result<()> {
    let Args { file, filter, end, format } = args;
    if let Some(other) = format.and_then(|format| format.named_otherwise(&file)) {
        note(&other);
    }
    let format = format.map_or_else(|| FileFormat::of(&file), Ok)?;
    let filter = filter.resolve(config, now_ms)?;
    let opened = open_ledger(config, "export", now_ms)?;
    let store = &opened.store;
    let is_stdout = file == Path::new("-");
    if is_stdout && format == FileFormat::Parquet {
        bail!(Misuse::new("a Parquet file is not for standard output; name a file"));
    }
    let target = (!is_stdout).then(|| Target::of(&file, &config.data, store)).transpose()?;
    // The sums know how many there are.
    let sums = usage(store, &filter, &[], &config.limits.time_zone)?;
    if sums.is_empty() {
        check_names(store, &filter, config)?;
        opened.tell_nothing();
    }
    let total = sums.iter().map(|l| l.sums.requests).sum();
    let export = Export { store: opened.store, filter, end, total };
    let count = match target {
        // Not a lock, which one thread would have to keep.
        None => {
            return export.write(format, io::stdout(), Path::new("the standard output")).map(drop);
        }
        Some(Target::Stream(stream)) => {
            // A shell's `>>` has something before.
            let stream = OpenOptions::new().append(true).open(stream);
            export.write(format, stream.with_context(|| cannot_write(&file))?, &file)?
        }
        Some(Target::File(place)) => {
            let growing = OutputFile::beside(place).with_context(|| cannot_write(&file))?;
            let count = export.write(format, growing.file(), &file)?;
            growing.place().with_context(|| cannot_write(&file))?;
            count
        }
    };
    note(&format!("{} in {}", counted(count, "request"), file.display()));
    Ok(())
}

struct Export {
    store: Store,
    filter: crate::store::Filter,
    end: Option<End>,
    total: u64,
}

impl Export {
    /// Writes all rows to what has this name; returns how many.
    fn write(
        &self,
        format: FileFormat,
        out: impl Write + Send,
        name: &Path,
    ) -> anyhow::Result<u64> {
        let rows = Rows::begin(format, BufWriter::new(out));
        let mut rows = rows.with_context(|| cannot_write(name))?;
        let (bar, mut count) = (bar(self.total, "requests"), 0);
        self.store.each_request::<anyhow::Error>(&self.filter, self.end, |request| {
            count += 1;
            bar.inc(1);
            rows.write(&request).with_context(|| cannot_write(name))
        })?;
        bar.finish_and_clear();
        rows.end().with_context(|| cannot_write(name))?;
        Ok(count)
    }
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

impl FileFormat {
    /// What to say where a file's name says another format than was asked for.
    fn named_otherwise(self, file: &Path) -> Option<String> {
        let named = Self::of(file).ok().filter(|named| *named != self)?;
        Some(format!("{} is named as {named:?}, and gets {self:?}", file.display()))
    }

    fn of(file: &Path) -> anyhow::Result<Self> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            Some("parquet") => Ok(Self::Parquet),
            _ => bail!(Misuse(format!(
                "{}: say what to write by --format, or end the name in .csv, .ndjson or .parquet",
                file.display()
            ))),
        }
    }
}

impl<W: Write + Send> Rows<W> {
    fn begin(format: FileFormat, mut out: W) -> anyhow::Result<Self> {
        Ok(match format {
            FileFormat::Csv => {
                write_csv_head(&mut out, &COLUMNS)?;
                Self::Csv(out)
            }
            FileFormat::Ndjson => Self::Ndjson(out),
            #[cfg(feature = "parquet")]
            FileFormat::Parquet => Self::Parquet(Box::new(ParquetRows::begin(out)?)),
            #[cfg(not(feature = "parquet"))]
            FileFormat::Parquet => bail!(
                "this weir was built without Parquet: build it by `make dist`, or by `cargo build --release \
                 --features parquet`; CSV and NDJSON can be written"
            ),
        })
    }

    fn write(&mut self, request: &Request) -> anyhow::Result<()> {
        match self {
            Self::Csv(out) => write_csv_line(out, &COLUMNS, request),
            Self::Ndjson(out) => {
                serde_json::to_writer(&mut *out, request)?;
                Ok(out.write_all(b"\n")?)
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.write(request),
        }
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut out) | Self::Ndjson(mut out) => Ok(out.flush()?),
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use serde_json::Value;

    use super::super::samples::{config_in, typed};
    use super::*;
    use crate::store::Filter;
    use crate::store::samples::{HOUR_MS, Sample, store_with};

    fn export(dir: &tempfile::TempDir, line: &str) -> anyhow::Result<()> {
        execute(typed(line)?, &config_in(dir.path()), 200 * HOUR_MS)
    }

    fn samples() -> Vec<Sample<'static>> {
        let end = |id: u64| [End::Complete, End::Timeout][usize::from(id % 10 == 3)];
        let at = |id: u64| ((id * 7) % 100) as i64;
        (0..100).map(|id| Sample { id, at_ms: at(id), end: end(id), ..Sample::default() }).collect()
    }

    #[test]
    fn every_format_has_every_row_oldest_first() {
        let (dir, store) = store_with(&samples());
        let mut expected = store.requests(&Filter::default(), None, 1_000).unwrap();
        expected.reverse();
        let outside = tempfile::tempdir().unwrap();
        let path = |name: &str| outside.path().join(name);
        std::os::unix::fs::symlink("target.csv", path("x.csv")).unwrap();
        for name in ["x.csv", "x.jsonl", "x.parquet"] {
            export(&dir, &path(name).display().to_string()).unwrap();
        }
        assert!(path("x.csv").is_symlink());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 4, "nothing else is left");
        let lines = std::fs::read_to_string(path("x.jsonl")).unwrap();
        let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let rows: Vec<_> = expected.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
        assert_eq!(lines, rows);
        let csv = std::fs::read_to_string(path("x.csv")).unwrap();
        assert_eq!(csv.lines().count(), 101);
        assert!(csv.lines().nth(1).unwrap().starts_with(&expected[0].event_id));
        let parquet = File::open(path("x.parquet")).unwrap();
        let parquet = SerializedFileReader::new(parquet).unwrap();
        let ids: Vec<_> = parquet
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().get_column_iter().next().unwrap().1.to_string())
            .collect();
        let wanted: Vec<_> = expected.iter().map(|row| format!("\"{}\"", row.event_id)).collect();
        assert_eq!(ids, wanted);
    }

    #[test]
    fn filters_narrow_it_and_mistakes_leave_what_was_there() {
        let (dir, _store) = store_with(&samples());
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("x.ndjson");
        let lines = || std::fs::read_to_string(&file).unwrap().lines().count();
        for (filter, count) in [
            ("", 100),
            ("--end timeout", 10),
            ("--until 1970-01-01T00:00:00.050Z", 50),
            ("--model other", 0),
        ] {
            export(&dir, &format!("{} {filter}", file.display())).unwrap();
            assert_eq!(lines(), count, "{filter}");
        }
        export(&dir, &file.display().to_string()).unwrap();
        let named = |rest: &str| format!("{} {rest}", file.display());
        for (line, error) in [
            (named("--tenant nobody"), "no tenant `nobody`"),
            (dir.path().join("x.xls").display().to_string(), "--format"),
            ("- --format parquet".to_owned(), "standard output"),
            ("/nowhere/at/all.csv".to_owned(), "cannot write"),
            (
                format!("{} --format csv", dir.path().join("weir.sqlite").display()),
                "the ledger's own",
            ),
            (
                format!("{} --format csv", dir.path().join("weir.sqlite-wal").display()),
                "the ledger's own",
            ),
        ] {
            let found = format!("{:#}", export(&dir, &line).unwrap_err());
            assert!(found.contains(error), "{line}: {found}");
        }
        assert_eq!(lines(), 100);
    }

    #[test]
    fn a_name_that_says_another_format_is_told() {
        for (file, format, is_told) in [
            ("x.csv", FileFormat::Parquet, true),
            ("x.jsonl", FileFormat::Csv, true),
            ("x.csv", FileFormat::Csv, false),
            ("x", FileFormat::Csv, false),
            ("-", FileFormat::Csv, false),
        ] {
            assert_eq!(format.named_otherwise(Path::new(file)).is_some(), is_told, "{file}");
        }
    }

    #[test]
    fn a_pipe_is_written_to_and_stays() {
        let (dir, _store) = store_with(&samples());
        let outside = tempfile::tempdir().unwrap();
        let pipe = outside.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| std::fs::read_to_string(&pipe).unwrap());
            export(&dir, &format!("{} --format csv", pipe.display())).unwrap();
            reader.join().unwrap()
        });
        assert_eq!(read.lines().count(), 101);
        assert!(!std::fs::metadata(&pipe).unwrap().is_file());
    }
}
