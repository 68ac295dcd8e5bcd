//! Rows as JSON, in one form wherever they are shown: by `pintail query`, in dead letters.
//!
//! Owns: an object a line, with its nulls; the values that Arrow's writer refuses or loses: floats that are no numbers (as text: `"NaN"`, `"inf"`),
//! maps with keys of any type, unions; nested values as text, for formats of cells.
//! Does not own: all other values, which Arrow writes.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UnionArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Writes rows, a line each.
///
/// # Errors
/// If they cannot be written.
pub fn write<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>, to: &mut dyn Write) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Values)).build::<_, LineDelimited>(to);
    batches.into_iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()
}

/// Returns rows, a line each. JSON escapes line ends: every one ends a row.
///
/// # Errors
/// If a value has no form in JSON.
pub fn lines(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut lines = Vec::new();
    write([rows], &mut lines)?;
    Ok(lines)
}

/// Makes the encoders.
#[derive(Debug)]
struct Values;

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float32 | DataType::Float64 => Box::new(FloatEncoder(array)),
            DataType::Map(entries, _) if !entries_have_text_keys(entries) => Box::new(MapEncoder::new(entries, array, options)?),
            DataType::Union(..) => Box::new(UnionEncoder::new(array.as_union(), options)?),
            _ => return Ok(None),
        };
        // A union has no nulls of its own: its members have.
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// Returns a column of nested values as text of JSON; any other as it is.
///
/// # Errors
/// If a value has no form in JSON.
pub fn nested_as_text(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !column.data_type().is_nested() {
        return Ok(column.clone());
    }
    let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Values));
    let mut encoder = make_encoder(field, column, &options)?;
    let texts = (0..column.len()).map(|row| {
        (!encoder.is_null(row)).then(|| {
            let mut text = Vec::new();
            encoder.encode(row, &mut text);
            String::from_utf8(text).expect("JSON is UTF-8")
        })
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// Floats. JSON has no numbers for some of them.
struct FloatEncoder<'a>(&'a dyn Array);

impl Encoder for FloatEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let written = match self.0.data_type() {
            DataType::Float32 => match self.0.as_primitive::<Float32Type>().value(row) {
                number if number.is_finite() => serde_json::to_writer(out, &number),
                other => serde_json::to_writer(out, &other.to_string()),
            },
            _ => match self.0.as_primitive::<Float64Type>().value(row) {
                number if number.is_finite() => serde_json::to_writer(out, &number),
                other => serde_json::to_writer(out, &other.to_string()),
            },
        };
        written.expect("a number or text can always be written as JSON");
    }
}

fn entries_have_text_keys(entries: &FieldRef) -> bool {
    let DataType::Struct(fields) = entries.data_type() else { return false };
    matches!(fields[0].data_type(), DataType::Utf8 | DataType::LargeUtf8)
}

/// A map whose keys are no text: they are written as text.
struct MapEncoder<'a> {
    offsets: OffsetBuffer<i32>,
    keys: ArrayFormatter<'a>,
    values: NullableEncoder<'a>,
}

impl<'a> MapEncoder<'a> {
    fn new(entries: &'a FieldRef, array: &'a dyn Array, options: &'a EncoderOptions) -> Result<Self, ArrowError> {
        let map = array.as_map();
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("the entries of a map are structs") };
        let keys = ArrayFormatter::try_new(map.keys(), &FormatOptions::new().with_display_error(true))?;
        Ok(Self { offsets: map.offsets().clone(), keys, values: make_encoder(&fields[1], map.values(), options)? })
    }
}

impl Encoder for MapEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let (from, to) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        out.push(b'{');
        for index in from..to {
            if index > from {
                out.push(b',');
            }
            push_text(&self.keys.value(index).to_string(), out);
            out.push(b':');
            encode_or_null(&mut self.values, index, out);
        }
        out.push(b'}');
    }
}

/// A union: an object of the member that holds the value, as DuckDB writes it.
struct UnionEncoder<'a> {
    union: &'a UnionArray,
    /// By type id: the member's name and values.
    members: Vec<(i8, &'a str, NullableEncoder<'a>)>,
}

impl<'a> UnionEncoder<'a> {
    fn new(union: &'a UnionArray, options: &'a EncoderOptions) -> Result<Self, ArrowError> {
        let DataType::Union(fields, _) = union.data_type() else { unreachable!("the type of a union is one") };
        let member = |(id, member): (i8, &'a FieldRef)| Ok((id, member.name().as_str(), make_encoder(member, union.child(id), options)?));
        Ok(Self { union, members: fields.iter().map(member).collect::<Result<_, ArrowError>>()? })
    }
}

impl Encoder for UnionEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let (id, index) = (self.union.type_id(row), self.union.value_offset(row));
        let (_, name, values) = self.members.iter_mut().find(|(member, ..)| *member == id).expect("a value is of one of its members");
        out.push(b'{');
        push_text(name, out);
        out.push(b':');
        encode_or_null(values, index, out);
        out.push(b'}');
    }
}

fn encode_or_null(encoder: &mut NullableEncoder<'_>, index: usize, out: &mut Vec<u8>) {
    if encoder.is_null(index) {
        out.extend_from_slice(b"null");
    } else {
        encoder.encode(index, out);
    }
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text can always be written as JSON");
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    #[test]
    fn a_row_is_a_line_that_keeps_nulls_line_ends_and_floats_that_are_no_numbers() {
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("x", Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
            ("text", Arc::new(StringArray::from(vec!["a\nb", ""]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
        let expected = "{\"n\":1,\"x\":\"NaN\",\"text\":\"a\\nb\"}\n{\"n\":null,\"x\":0.5,\"text\":\"\"}\n";
        assert_eq!(String::from_utf8(lines(&rows).unwrap()).unwrap(), expected);
    }
}
