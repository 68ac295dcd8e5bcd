//! How a file is written: encodings, statistics, limits.
//!
//! Owns: the Parquet properties and the reasons for them.
//! Does not own: when the limits are looked at (see `open_file`).

use std::collections::HashSet;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, SortOptions};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use pintail_storage::checkpoint::columns::{OutputColumn, with_field_ids};

use crate::config::SinkConfig;
use crate::layout::OutputLayout;

/// Bytes of rows (in Arrow) that a file collects at least before it gets a writer: a writer costs a descriptor, buffers and an fsync, and below some pages'
/// worth of rows it has nothing to do.
const COLLECT_BYTES: usize = 128 * 1024;

/// Bytes of a dictionary's hash table, which the writer makes for 4,096 values at once, for each column that may have a dictionary.
const DICTIONARY_BYTES: usize = 80 << 10;
/// Bytes of the compressor of a column and of its other state that are in use.
const CODEC_BYTES: usize = 16 << 10;
/// Bytes of what is kept of a column of a row group that is written, for the footer and the indexes.
const COLUMN_FOOTER_BYTES: usize = 1 << 10;

/// Bytes of a dictionary of floating-point numbers beyond which it is given up: 16,384 doubles, which are cheap to try.
const FLOAT_DICTIONARY_BYTES_MAX: usize = 128 * 1024;

/// Values that go through the encoders at once.
const WRITE_BATCH_ROWS: usize = 8192;

/// The format of the files of a layout.
#[derive(Debug)]
pub(super) struct FileFormat {
    pub schema: SchemaRef,
    /// The same, with the ids of the columns for the Parquet schema.
    pub written_schema: SchemaRef,
    pub properties: WriterProperties,
    pub row_group_rows: usize,
    /// Bytes of collected rows at which they go to the writer.
    pub collect_bytes: usize,
    /// Bytes of the encoders of a row group with its first row.
    pub encoder_bytes: usize,
    /// Bytes of them that the writer does not count.
    pub codec_bytes: usize,
    /// Bytes of what is kept of a row group that is written.
    pub footer_bytes: usize,
    pub target_file_bytes: u64,
    sort: Vec<(usize, SortOptions)>,
}

impl FileFormat {
    pub(super) fn new(layout: &OutputLayout, sink: &SinkConfig, columns: &[OutputColumn]) -> Self {
        let schema = layout.file_schema().clone();
        // Null last, as DuckDB orders by default.
        let order = |descending: bool| SortOptions { descending, nulls_first: false };
        let index = |name: &str| schema.index_of(name).expect("the layout has checked the sort columns");
        let sort: Vec<_> = sink.sort_by.iter().map(|column| (index(&column.name), order(column.descending))).collect();
        let size_max = sink.row_group_bytes.min(usize::try_from(sink.target_file_bytes).unwrap_or(usize::MAX));
        let properties = properties(&schema, sink);
        let leaves = ArrowSchemaConverter::new().convert(&schema).expect("the layout has tried every column");
        let leaves = leaves.columns();
        let dictionaries = leaves.iter().filter(|leaf| properties.dictionary_enabled(leaf.path())).count();
        let codec_bytes = leaves.len() * CODEC_BYTES;
        let encoder_bytes = codec_bytes + dictionaries * DICTIONARY_BYTES;
        Self {
            properties,
            // Before sorting and encoding only the size in memory is known. It stands for the encoded size, which is smaller. Rows in Arrow take less
            // than the encoders of many columns, until there are as many bytes of them.
            collect_bytes: if sort.is_empty() { COLLECT_BYTES.max(encoder_bytes).min(size_max) } else { size_max },
            encoder_bytes,
            codec_bytes,
            footer_bytes: leaves.len() * COLUMN_FOOTER_BYTES,
            row_group_rows: sink.row_group_rows.max(1),
            target_file_bytes: sink.target_file_bytes,
            written_schema: with_field_ids(&schema, columns),
            schema,
            sort,
        }
    }

    /// Returns whether rows are sorted within each row group.
    pub(super) fn sorts(&self) -> bool {
        !self.sort.is_empty()
    }

    /// Returns the columns that order rows, the most significant first.
    pub(super) fn sort_columns(&self, rows: &RecordBatch) -> Vec<SortColumn> {
        let column = |&(index, options): &(usize, SortOptions)| SortColumn { values: rows.column(index).clone(), options: Some(options) };
        self.sort.iter().map(column).collect()
    }
}

fn properties(schema: &SchemaRef, sink: &SinkConfig) -> WriterProperties {
    let descriptor = ArrowSchemaConverter::new().convert(schema).expect("the layout has tried every column");
    let leaves = descriptor.columns();
    // Parquet counts leaves, not fields: a struct in front shifts the number.
    let leaf = |name: &str| leaves.iter().position(|leaf| leaf.path().parts()[0] == name).expect("the layout has checked the sort columns");
    let sorting = sink.sort_by.iter().map(|column| SortingColumn {
        column_idx: leaf(&column.name) as i32,
        descending: column.descending,
        nulls_first: false,
    });
    let sorting: Vec<_> = sorting.collect();
    // Row groups that are sorted are cut by rows alone: a cut by bytes would leave a small rest of each.
    let row_group_bytes = sorting.is_empty().then_some(sink.row_group_bytes.max(1));
    let mut builder = WriterProperties::builder()
        // In the form that parquet-java reads: where it cannot, it passes over the statistics of text.
        .set_created_by(format!("pintail version {} (build unknown)", env!("CARGO_PKG_VERSION")))
        .set_compression(sink.compression)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_max_row_group_row_count(Some(sink.row_group_rows.max(1)))
        .set_max_row_group_bytes(row_group_bytes)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns((!sorting.is_empty()).then_some(sorting));
    for leaf in leaves {
        builder = encoded(builder, leaf);
    }
    let ordered = sink.sort_by.iter().map(|column| &column.name);
    let with_statistics: HashSet<&String> = ordered.chain(&sink.text_statistics).collect();
    // Finding the least and the greatest of many short texts costs as much as all else that is done with them, and tells readers nothing
    // unless the texts have an order.
    for leaf in leaves.iter().filter(|leaf| leaf.physical_type() == Type::BYTE_ARRAY) {
        if !with_statistics.contains(&leaf.path().parts()[0]) {
            builder = builder.set_column_statistics_enabled(leaf.path().clone(), EnabledStatistics::None);
        }
    }
    for name in &sink.bloom_filter {
        builder = builder.set_column_bloom_filter_enabled(ColumnPath::from(name.as_str()), true);
    }
    builder.build()
}

/// Sets the encoding of a column by its type.
///
/// A dictionary pays for text, which is long and repeats; where it does not repeat, the writer gives it up by itself. Integers and times do
/// without: they are close to their neighbours, so their differences take few bits. Floating-point numbers either repeat (prices, readings
/// of few digits), and then a dictionary is a third of their size and less work than compressing them, or they never do, and a small one is
/// soon given up.
fn encoded(builder: WriterPropertiesBuilder, leaf: &ColumnDescPtr) -> WriterPropertiesBuilder {
    let path = leaf.path().clone();
    match leaf.physical_type() {
        Type::BYTE_ARRAY => builder.set_column_dictionary_enabled(path, true),
        Type::INT32 | Type::INT64 => {
            builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
        }
        Type::FLOAT | Type::DOUBLE => builder
            .set_column_dictionary_enabled(path.clone(), true)
            .set_column_dictionary_page_size_limit(path, FLOAT_DICTIONARY_BYTES_MAX),
        _ => builder.set_column_dictionary_enabled(path, false),
    }
}
