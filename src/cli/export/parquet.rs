//! Rows as Apache Parquet, by its low-level writer: values are collected column by column and written as a row
//! group when there are enough of them, so that memory does not grow with the file.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::store::Request;

use super::super::output::plain_text;

/// Rows in one row group.
const GROUP_ROWS: usize = 32 * 1024;
/// Digits of an amount of money after the point, and in all that 64 bits hold.
const USD_SCALE: u32 = 9;
const USD_PRECISION: i32 = 18;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Count,
    Bool,
    /// Milliseconds in UTC.
    Time,
    /// Dollars, with nine digits after the point.
    Usd,
}

/// A field of a row, by the name that it has in JSON; `true`: there may be no value.
const COLUMNS: [(&str, Kind, bool); 39] = [
    ("event_id", Kind::Text, false),
    ("started_at", Kind::Time, false),
    ("tenant", Kind::Text, false),
    ("key_id", Kind::Text, false),
    ("model", Kind::Text, false),
    ("model_served", Kind::Text, true),
    ("upstream", Kind::Text, false),
    ("upstream_key", Kind::Text, true),
    ("endpoint", Kind::Text, false),
    ("status", Kind::Count, false),
    ("upstream_status", Kind::Count, true),
    ("end", Kind::Text, false),
    ("usage_source", Kind::Text, false),
    ("input_tokens", Kind::Count, false),
    ("cached_tokens", Kind::Count, false),
    ("cache_write_tokens", Kind::Count, false),
    ("output_tokens", Kind::Count, false),
    ("reasoning_tokens", Kind::Count, false),
    ("audio_input_tokens", Kind::Count, false),
    ("audio_output_tokens", Kind::Count, false),
    ("image_input_tokens", Kind::Count, false),
    ("image_output_tokens", Kind::Count, false),
    ("accepted_prediction_tokens", Kind::Count, false),
    ("rejected_prediction_tokens", Kind::Count, false),
    ("total_tokens", Kind::Count, false),
    ("output_images", Kind::Count, false),
    ("audio_ms", Kind::Count, false),
    ("raw_usage", Kind::Text, true),
    ("reserved_tokens", Kind::Count, false),
    ("cost_usd", Kind::Usd, true),
    ("price_version", Kind::Text, true),
    ("reported_cost_usd", Kind::Usd, true),
    ("ttfb_ms", Kind::Count, true),
    ("duration_ms", Kind::Count, false),
    ("attempts", Kind::Count, false),
    ("failed_attempts", Kind::Text, true),
    ("streamed", Kind::Bool, false),
    ("flags", Kind::Text, false),
    ("upstream_request_id", Kind::Text, true),
];

/// A file that is being written.
pub(super) struct ParquetRows<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Values>,
    rows: usize,
}

/// One column of the row group to be.
#[derive(Default)]
struct Values {
    texts: Vec<ByteArray>,
    numbers: Vec<i64>,
    bools: Vec<bool>,
    /// 1 where there is a value, 0 where there is none.
    levels: Vec<i16>,
}

impl<W: Write + Send> ParquetRows<W> {
    pub(super) fn begin(out: W) -> anyhow::Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(out, Arc::new(schema()?), Arc::new(properties))?;
        let columns = COLUMNS.iter().map(|_| Values::default()).collect();
        Ok(Self { file, columns, rows: 0 })
    }

    pub(super) fn write(&mut self, request: &Request) -> anyhow::Result<()> {
        let row = serde_json::to_value(request)?;
        for ((name, kind, _), values) in COLUMNS.iter().zip(&mut self.columns) {
            values.push(*kind, &row[*name]).with_context(|| format!("{name} of a row"))?;
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left, and the file's foot.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let mut out = self.file.into_inner()?;
        Ok(out.flush()?)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for ((_, kind, is_optional), values) in COLUMNS.iter().zip(&mut self.columns) {
            values.write(&mut group, *kind, *is_optional)?;
            *values = Values::default();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Values {
    fn push(&mut self, kind: Kind, value: &Value) -> anyhow::Result<()> {
        self.levels.push(i16::from(!value.is_null()));
        if value.is_null() {
            return Ok(());
        }
        let text = || value.as_str().context("not a text");
        match kind {
            Kind::Text => self.texts.push(plain_text(value).into_bytes().into()),
            Kind::Bool => self.bools.push(value.as_bool().context("not true or false")?),
            Kind::Time => self.numbers.push(text()?.parse::<Timestamp>()?.as_millisecond()),
            Kind::Usd => self.numbers.push(nano_usd(text()?).context("not an amount")?),
            Kind::Count => {
                let largest = value.is_u64().then_some(i64::MAX);
                self.numbers.push(value.as_i64().or(largest).context("not a whole number")?);
            }
        }
        Ok(())
    }

    fn write<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        kind: Kind,
        is_optional: bool,
    ) -> anyhow::Result<()> {
        let mut column = group.next_column()?.context("the schema has as many columns")?;
        let levels = is_optional.then_some(self.levels.as_slice());
        match kind {
            Kind::Text => column.typed::<ByteArrayType>().write_batch(&self.texts, levels, None)?,
            Kind::Bool => column.typed::<BoolType>().write_batch(&self.bools, levels, None)?,
            Kind::Count | Kind::Time | Kind::Usd => {
                column.typed::<Int64Type>().write_batch(&self.numbers, levels, None)?
            }
        };
        Ok(column.close()?)
    }
}

fn schema() -> anyhow::Result<Type> {
    let column = |(name, kind, is_optional): &(&str, Kind, bool)| {
        let physical = match kind {
            Kind::Text => Physical::BYTE_ARRAY,
            Kind::Bool => Physical::BOOLEAN,
            Kind::Count | Kind::Time | Kind::Usd => Physical::INT64,
        };
        let needed = if *is_optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(needed);
        let builder = match kind {
            Kind::Text => builder.with_logical_type(Some(LogicalType::String)),
            Kind::Time => builder.with_converted_type(ConvertedType::TIMESTAMP_MILLIS),
            Kind::Usd => builder
                .with_converted_type(ConvertedType::DECIMAL)
                .with_precision(USD_PRECISION)
                .with_scale(USD_SCALE as i32),
            Kind::Bool | Kind::Count => builder,
        };
        builder.build().map(Arc::new)
    };
    let columns = COLUMNS.iter().map(column).collect::<Result<_, _>>()?;
    Ok(Type::group_type_builder("request").with_fields(columns).build()?)
}

/// A decimal number of dollars in billionths.
fn nano_usd(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = USD_SCALE.checked_sub(u32::try_from(part.len()).ok()?)?;
    let part = if part.is_empty() { 0 } else { part.parse::<i64>().ok()? };
    let part = part.checked_mul(10_i64.pow(missing))?;
    let whole = whole.parse::<i64>().ok()?.checked_mul(10_i64.pow(USD_SCALE))?;
    whole.checked_add(part)?.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::cli::requests;
    use crate::price::usd;
    use crate::store::Filter;
    use crate::store::samples::{Sample, store_with};

    #[test]
    fn the_columns_are_those_of_weir_requests() {
        let columns = requests::COLUMNS.map(|column| column.name);
        assert_eq!(COLUMNS.map(|(name, ..)| name), columns);
    }

    #[test]
    fn values_and_missing_ones_come_back() {
        let (_dir, mut store) = store_with(&[Sample::default()]);
        let bare = Sample { id: 2, at_ms: 1, ..Sample::default() }.row();
        let closed = crate::record::Closed::crashed(&bare.opened);
        store.append(&[crate::record::Row { closed, ..bare }], &[]).unwrap();
        let mut out = Vec::new();
        let mut rows = ParquetRows::begin(&mut out).unwrap();
        let mut found = store.requests(&Filter::default(), None, 9).unwrap();
        found[0].cost_usd = Some("1.5".to_owned());
        found[0].total_tokens = u64::MAX;
        found.iter().for_each(|request| rows.write(request).unwrap());
        rows.end().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(out)).unwrap();
        let rows: Vec<_> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        for (row, part) in [
            (0, "started_at: 1970-01-05 04:00:00.000 +00:00"),
            (0, "cost_usd: 1.500000000"),
            (0, "total_tokens: 9223372036854775807"),
            (0, "streamed: true"),
            (0, "ttfb_ms: 12"),
            (1, "ttfb_ms: null"),
            (1, "cost_usd: null"),
            (1, "end: \"crashed\""),
        ] {
            assert!(rows[row].contains(part), "{part}: {}", rows[row]);
        }
    }

    #[test]
    fn money_is_read_as_it_is_written() {
        for nano in [0, 1, 1_500_000_000, 20_000_000_000, i64::MAX] {
            assert_eq!(nano_usd(&usd(nano)), Some(nano));
        }
        assert_eq!(nano_usd("-0.25"), Some(-250_000_000));
        for text in ["", "x", "1.2.3", "0.0000000001", "99999999999"] {
            assert_eq!(nano_usd(text), None, "{text}");
        }
    }
}
