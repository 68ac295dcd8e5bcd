//! The overview: `events` as the index knows them, without a file.
//!
//! Owns: a view `events` of the right types whose partition columns have values, and which says when a query needs another column; evaluating a
//! condition over files.
//! Does not own: reading files (see [`super`]), what a condition is (see [`super::condition`]).
//!
//! Whether a column is needed is not for us to find out from a text: DuckDB asks the scan for the columns that its plan uses.

use std::collections::BTreeSet;
use std::iter;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use duckdb::Connection;
use pintail_core::error::Result;
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::reader::Committed;
use serde_json::Value;

use super::condition::{self, Compared, Condition, Known};
use crate::arrow_ffi::Converter;
use crate::raw::RawDatabase;
use crate::scan::{self, Input, Loaded, Pace, Slot, Slots, Withheld};
use crate::sql::{collect, collect_texts, literal, quoted};
use crate::statement::Select;

/// Rows of a batch that repeats the values of one partition.
const REPEATED: usize = 1 << 16;
/// Parts of a condition; a statement with more is run over all files.
const PARTS_MAX: usize = 64;

/// A database with the overview. The fields are dropped from the top: connections before the database.
pub(super) struct Overview<'a> {
    connection: Connection,
    converter: Arc<Converter>,
    events: Slot,
    files: Slot,
    needed: Arc<AtomicBool>,
    committed: &'a Committed,
    database: RawDatabase,
}

/// The columns of `events`, which has its rows as long as this lives.
pub(super) struct Described<'a> {
    /// Name and type of each.
    columns: Vec<(String, String)>,
    _rows: Loaded<'a>,
}

/// A column of times whose bounds are known.
struct Timed {
    name: String,
    data_type: String,
    id: u32,
    unit: TimeUnit,
}

impl<'a> Overview<'a> {
    /// Makes an empty one in `database`.
    pub(super) fn new(database: RawDatabase, committed: &'a Committed) -> Result<Self> {
        let slots = Slots::default();
        scan::register(&database.connect()?, &slots)?;
        Ok(Self {
            connection: database.sql_connection()?,
            converter: Arc::new(Converter::new(database.connect()?)),
            events: slots.reserve(),
            files: slots.reserve(),
            needed: Arc::default(),
            committed,
            database,
        })
    }

    /// Returns its connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the database.
    pub(super) fn database(&self) -> &RawDatabase {
        &self.database
    }

    /// Makes the view `events`, with the columns of `query`, which reads files.
    pub(super) fn describe(&self, query: &str) -> duckdb::Result<Described<'_>> {
        let rows = collect_texts(&self.connection, &format!("SELECT column_name, column_type FROM (DESCRIBE {query})"))?;
        let columns: Vec<(String, String)> =
            rows.into_iter().filter_map(|row| row.try_into().ok().map(|[name, of]: [String; 2]| (name, of))).collect();
        let (input, places) = self.rows(&columns).map_err(|e| duckdb::Error::ToSqlConversionFailure(e.into()))?;
        let rows = self.events.load(input);
        let column = |((name, of), place): (&(String, String), usize)| format!("CAST(c{place} AS {of}) AS {}", quoted(name));
        let selected: Vec<String> = columns.iter().zip(places).map(column).collect();
        self.connection.execute_batch(&format!("CREATE VIEW events AS SELECT {} FROM {}", selected.join(", "), self.events.call()))?;
        Ok(Described { columns, _rows: rows })
    }

    /// Returns whether a query has failed because it needs what is in the files.
    pub(super) fn is_not_enough(&self) -> bool {
        self.needed.load(Ordering::Relaxed)
    }

    /// Makes the rows: first a column for queries that need none (DuckDB asks for the first then), then the partition columns as text, then those
    /// that are withheld. Returns also the place of each of `columns` among these.
    fn rows(&self, columns: &[(String, String)]) -> Result<(Input, Vec<usize>), ArrowError> {
        let partitions: Vec<&str> = self.committed.partition_by.iter().map(|(name, _)| name.as_str()).collect();
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let (mut places, mut withheld) = (Vec::new(), 1 + partitions.len());
        for (name, _) in columns {
            places.push(partitions.iter().position(|partition| partition == name).map_or(withheld, |place| 1 + place));
            withheld += usize::from(!partitions.contains(&name.as_str()));
        }
        let type_of = |place| if place == 0 { DataType::Boolean } else { text.clone() };
        let schema =
            Arc::new(Schema::new((0..withheld).map(|place| Field::new(format!("c{place}"), type_of(place), true)).collect::<Vec<_>>()));
        let known = schema.project(&(0..=partitions.len()).collect::<Vec<_>>())?;
        let batches = self.batches(&Arc::new(known), &partitions)?;
        let withheld = Withheld { from: 1 + partitions.len(), needed: self.needed.clone() };
        Ok((Input { schema, batches, converter: self.converter.clone(), withheld: Some(withheld), pace: Pace::default() }, places))
    }

    /// Repeats the values of each partition as often as its files have rows. The order is that of the directories, which costs far less than that of
    /// the files; without an ORDER BY, SQL promises none.
    fn batches(&self, schema: &SchemaRef, partitions: &[&str]) -> Result<Vec<RecordBatch>, ArrowError> {
        let keys = Int32Array::from(vec![0; REPEATED]);
        let none: ArrayRef = Arc::new(BooleanArray::from(vec![true; REPEATED]));
        let mut rows = vec![0_u64; self.committed.dirs.len()];
        self.committed.files.iter().for_each(|file| rows[file.dir] += file.rows);
        let mut batches = Vec::new();
        for (dir, mut rows) in self.committed.dirs.iter().zip(rows) {
            let values = values(dir, partitions).into_iter().map(|value| {
                let values: ArrayRef = Arc::new(StringArray::from(vec![value]));
                Ok(Arc::new(DictionaryArray::try_new(keys.clone(), values)?) as ArrayRef)
            });
            let columns = iter::once(Ok(none.clone())).chain(values).collect::<Result<Vec<_>, ArrowError>>()?;
            let repeated = RecordBatch::try_new(schema.clone(), columns)?;
            while rows > 0 {
                let some = usize::try_from(rows).unwrap_or(REPEATED).min(REPEATED);
                batches.push(repeated.slice(0, some));
                rows -= some as u64;
            }
        }
        Ok(batches)
    }

    /// Returns the files in which a row may be that `select` needs; `None` if all have to be looked at.
    pub(super) fn files(&self, select: &Select, described: &Described) -> Option<Vec<usize>> {
        let times = self.times(&described.columns);
        let partitions = self.committed.partition_by.iter().map(|(name, _)| name.clone()).collect();
        let known = Known { partitions, times: times.iter().map(|time| time.name.clone()).collect() };
        let (condition, functions) = condition::of(select.tree(), &known);
        if condition == Condition::Any || !self.are_plain(functions) {
            return None;
        }
        let mut parts = Parts { connection: &self.connection, template: self.template()?, left: PARTS_MAX };
        let text = parts.text(&condition)?;
        let input = self.table(&times).ok()?;
        let _files = self.files.load(input);
        let partitions = self.committed.partition_by.iter().enumerate();
        let partitions = partitions.map(|(place, (name, of))| format!(", CAST(p{place} AS {of}) AS {}", quoted(name)));
        let bounds = times.iter().enumerate().flat_map(|(place, time)| {
            [lowest(place), highest(place)].map(|name| format!(", CAST({name} AS {}) AS {name}", time.data_type))
        });
        let columns: String = partitions.chain(bounds).collect();
        // Whatever fails here fails again where it is not only a condition, or needs no file to be left out.
        let sql = format!("SELECT file FROM (SELECT file{columns} FROM {}) WHERE {text}", self.files.call());
        let (_, batches) = collect(&self.connection, &sql).ok()?;
        let mut files: Vec<usize> = Vec::new();
        for batch in batches {
            files.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().filter_map(|file| usize::try_from(*file).ok()));
        }
        Some(files)
    }

    /// Returns the columns of times whose bounds are in the unit that DuckDB reads.
    fn times(&self, columns: &[(String, String)]) -> Vec<Timed> {
        let timed = |(name, data_type): &(String, String)| {
            let column = self.committed.classes.iter().flatten().rev().find(|column| column.name == *name && column.id > 0)?;
            let DataType::Timestamp(unit, _) = DataType::from_str(&column.data_type).ok()? else { return None };
            let fits = match unit {
                TimeUnit::Microsecond => matches!(data_type.as_str(), "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE"),
                TimeUnit::Millisecond => matches!(data_type.as_str(), "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE" | "TIMESTAMP_MS"),
                TimeUnit::Nanosecond => data_type == "TIMESTAMP_NS",
                TimeUnit::Second => false,
            };
            fits.then(|| Timed { name: name.clone(), data_type: data_type.clone(), id: column.id, unit })
        };
        columns.iter().filter_map(timed).collect()
    }

    /// Makes the table of files.
    fn table(&self, times: &[Timed]) -> Result<Input, ArrowError> {
        let files = &self.committed.files;
        let partitions: Vec<&str> = self.committed.partition_by.iter().map(|(name, _)| name.as_str()).collect();
        let of_dirs: Vec<Vec<Option<String>>> = self.committed.dirs.iter().map(|dir| values(dir, &partitions)).collect();
        let numbers: ArrayRef = Arc::new((0..files.len() as i64).collect::<Int64Array>());
        let mut columns = vec![("file".to_owned(), numbers)];
        columns.extend((0..partitions.len()).map(|place| {
            let values: StringArray = files.iter().map(|file| of_dirs[file.dir][place].as_deref()).collect();
            (format!("p{place}"), Arc::new(values) as ArrayRef)
        }));
        for (place, time) in times.iter().enumerate() {
            let bounds: Vec<Option<(i64, i64)>> = files
                .iter()
                .map(|file| {
                    // What was adopted may hold its times in another unit.
                    let bounds = file.class.and_then(|_| file.bounds.iter().find(|bounds| bounds.0 == time.id));
                    bounds.map(|bounds| (bounds.1, bounds.2))
                })
                .collect();
            let column = |of: fn((i64, i64)) -> i64| {
                let numbers: Int64Array = bounds.iter().map(|bounds| bounds.map(of)).collect();
                cast(&numbers, &DataType::Timestamp(time.unit, None))
            };
            columns.push((lowest(place), column(|(low, _)| low)?));
            columns.push((highest(place), column(|(_, high)| high)?));
        }
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?;
        Ok(Input { schema: batch.schema(), batches: vec![batch], converter: self.converter.clone(), withheld: None, pace: Pace::default() })
    }

    /// Returns whether functions give the same for the same arguments, whenever and how often they are called.
    fn are_plain(&self, functions: BTreeSet<String>) -> bool {
        if functions.is_empty() {
            return true;
        }
        let names: Vec<String> = functions.iter().map(|name| literal(name)).collect();
        let now: Vec<String> = condition::NOW.iter().map(|name| literal(name)).collect();
        let sql = format!(
            "SELECT function_name FROM duckdb_functions() WHERE function_name IN ({}) GROUP BY function_name \
             HAVING bool_and(function_type = 'scalar' AND (stability = 'CONSISTENT' OR function_name IN ({})))",
            names.join(", "),
            now.join(", ")
        );
        collect_texts(&self.connection, &sql).is_ok_and(|rows| rows.len() == functions.len())
    }

    /// Returns the tree of a statement that selects one expression.
    fn template(&self) -> Option<Value> {
        let rows = collect_texts(&self.connection, "SELECT json_serialize_sql('SELECT 1')::VARCHAR").ok()?;
        serde_json::from_str(rows.first()?.first()?).ok()
    }
}

/// Writes a condition as SQL over the table of files.
struct Parts<'a> {
    connection: &'a Connection,
    template: Value,
    left: usize,
}

impl Parts<'_> {
    fn text(&mut self, condition: &Condition) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        let mut joined = |conditions: &[Condition], by: &str| {
            let texts: Option<Vec<String>> = conditions.iter().map(|condition| self.text(condition)).collect();
            Some(format!("({})", texts?.join(by)))
        };
        match condition {
            Condition::Any => Some("true".to_owned()),
            Condition::All(conditions) => joined(conditions, " AND "),
            Condition::Either(conditions) => joined(conditions, " OR "),
            Condition::Partition(expression) => self.expression(expression),
            Condition::Time { column, of, compared, with } => {
                let (low, high) = (self.with_column(of, &lowest(*column))?, self.with_column(of, &highest(*column))?);
                let with = self.expression(with)?;
                let within = match compared {
                    Compared::Less => format!("{low} < {with}"),
                    Compared::AtMost => format!("{low} <= {with}"),
                    Compared::Equal => format!("{low} <= {with} AND {high} >= {with}"),
                    Compared::AtLeast => format!("{high} >= {with}"),
                    Compared::Greater => format!("{high} > {with}"),
                };
                // Where no bounds are known, any row may be there.
                Some(format!("coalesce({within}, true)"))
            }
        }
    }

    /// Lets DuckDB write an expression of its tree.
    fn expression(&self, expression: &Value) -> Option<String> {
        let mut statement = self.template.clone();
        *statement.pointer_mut("/statements/0/node/select_list")? = Value::Array(vec![expression.clone()]);
        let rows =
            collect_texts(self.connection, &format!("SELECT json_deserialize_sql({}::JSON)", literal(&statement.to_string()))).ok()?;
        Some(format!("({})", rows.first()?.first()?.strip_prefix("SELECT ")?))
    }

    fn with_column(&self, of: &Value, name: &str) -> Option<String> {
        let mut of = of.clone();
        rename(&mut of, name);
        self.expression(&of)
    }
}

fn rename(node: &mut Value, name: &str) {
    match node {
        Value::Array(nodes) => nodes.iter_mut().for_each(|node| rename(node, name)),
        Value::Object(object) => {
            if let Some(names) = object.get_mut("column_names") {
                *names = Value::Array(vec![name.into()]);
            }
            object.values_mut().for_each(|node| rename(node, name));
        }
        _ => {}
    }
}

fn lowest(place: usize) -> String {
    format!("pintail_lowest_{place}")
}

fn highest(place: usize) -> String {
    format!("pintail_highest_{place}")
}

/// Returns the values of the partition columns that a directory says, as text.
fn values(dir: &str, partitions: &[&str]) -> Vec<Option<String>> {
    let said: Vec<(&str, Option<String>)> =
        HivePartition::values_of(dir).map(|(name, value)| (name, value.map(|value| value.into_owned()))).collect();
    let value = |partition: &&str| said.iter().find(|(name, _)| name == partition).and_then(|(_, value)| value.clone());
    partitions.iter().map(value).collect()
}
