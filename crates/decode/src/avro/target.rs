//! Targets: what the values of a type become in Arrow.
//!
//! Owns: which columns a schema makes, of which Arrow types, and which schemas make none: those that hold themselves, or hold too much.
//! Does not own: the values (see `slot`), how they are read (see `plan`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};

use super::schema::{Id, Kind, Logical, Schema};

/// Columns of a schema, those in structs, lists and maps counted, too.
const COLUMNS_MAX: usize = 4_096;
/// Structs, lists and maps in each other. Readers of Arrow and Parquet go down by recursion.
const DEPTH_MAX: usize = 32;
/// Digits of a decimal, in Arrow and DuckDB.
const DECIMAL_DIGITS_MAX: u64 = 38;

/// What a value becomes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: Becomes,
    /// Whether there may be none.
    pub(super) is_nullable: bool,
}

/// The type of what a value becomes.
#[derive(Debug, Clone)]
pub(super) enum Becomes {
    /// Text of which there is none: all values are null.
    Null,
    Boolean,
    Int(IntOf),
    Long(LongOf),
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    /// The text of a fixed of 16 bytes.
    Uuid,
    Binary,
    /// Text, kept as a dictionary where that is the type of a column.
    Enum {
        symbols: Arc<[String]>,
        is_dictionary: bool,
    },
    Interval,
    List(Box<Target>),
    Map(Box<Target>),
    Struct(Vec<(String, Target)>),
    /// A union of several types: a struct with a member for each, of which one has a value.
    Branches(Vec<(String, Target)>),
}

/// What an int of 32 bits means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntOf {
    Number,
    Date,
    TimeMillis,
}

/// What an integer of 64 bits means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LongOf {
    Number,
    TimeMicros,
    Timestamp(TimeUnit),
}

impl Target {
    /// Returns the Arrow type.
    pub(super) fn data_type(&self) -> DataType {
        match &self.kind {
            Becomes::Boolean => DataType::Boolean,
            Becomes::Int(IntOf::Number) => DataType::Int32,
            Becomes::Int(IntOf::Date) => DataType::Date32,
            Becomes::Int(IntOf::TimeMillis) => DataType::Time32(TimeUnit::Millisecond),
            Becomes::Long(LongOf::Number) => DataType::Int64,
            Becomes::Long(LongOf::TimeMicros) => DataType::Time64(TimeUnit::Microsecond),
            // Without a zone, as the timestamps of other records.
            Becomes::Long(LongOf::Timestamp(unit)) => DataType::Timestamp(*unit, None),
            Becomes::Float => DataType::Float32,
            Becomes::Double => DataType::Float64,
            Becomes::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Becomes::Enum { is_dictionary: true, .. } => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Becomes::Null | Becomes::Text | Becomes::Uuid | Becomes::Enum { .. } => DataType::Utf8,
            Becomes::Binary => DataType::Binary,
            Becomes::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Becomes::List(item) => DataType::List(Arc::new(item.field("item"))),
            Becomes::Map(value) => DataType::Map(entries(value), false),
            Becomes::Struct(members) | Becomes::Branches(members) => DataType::Struct(fields(members)),
        }
    }

    /// Returns the Arrow field of this name.
    pub(super) fn field(&self, name: &str) -> Field {
        Field::new(name, self.data_type(), self.is_nullable)
    }

    /// Returns about the bytes that a value takes, without those of texts and of what lists and maps hold.
    pub(super) fn width(&self) -> usize {
        match &self.kind {
            Becomes::Boolean => 1,
            Becomes::Int(_) | Becomes::Float | Becomes::List(_) | Becomes::Map(_) => 4,
            Becomes::Long(_) | Becomes::Double => 8,
            Becomes::Struct(members) | Becomes::Branches(members) => 1 + members.iter().map(|(_, member)| member.width()).sum::<usize>(),
            Becomes::Enum { is_dictionary: true, .. } => 4,
            Becomes::Enum { symbols, .. } => 16 + symbols.iter().map(String::len).max().unwrap_or(0),
            // Text is a view once the SQL has had it.
            _ => 16,
        }
    }
}

/// Returns the Arrow fields of columns or members.
pub(super) fn fields(members: &[(String, Target)]) -> Fields {
    members.iter().map(|(name, target)| target.field(name)).collect()
}

/// Returns the field of the entries of a map.
pub(super) fn entries(value: &Target) -> FieldRef {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), value.field("value")]);
    Arc::new(Field::new("entries", DataType::Struct(pair), false))
}

/// Returns the columns that records of a schema have.
///
/// # Errors
/// Why it has none, as a clause.
pub(super) fn columns(schema: &Schema) -> Result<Vec<(String, Target)>, String> {
    let mut maker = Maker { schema, left: COLUMNS_MAX, open: Vec::new() };
    let Kind::Record { .. } = &schema.get(schema.root()).kind else {
        let found = schema.get(schema.root()).kind.name().escape_debug();
        return Err(format!("it is a schema of type `{found}`: expected one of a record, whose fields become the columns"));
    };
    let columns = maker.members(schema.root(), "")?;
    Ok(columns)
}

struct Maker<'s> {
    schema: &'s Schema,
    /// Columns that there may still be.
    left: usize,
    /// What is around: records, and `None` for each list, map and union of several types.
    open: Vec<Option<Id>>,
}

impl Maker<'_> {
    fn members(&mut self, record: Id, path: &str) -> Result<Vec<(String, Target)>, String> {
        let Kind::Record { name, fields } = &self.schema.get(record).kind else { unreachable!("the caller looked") };
        if fields.is_empty() {
            return Err(format!("the record `{}`{} has no fields, and so no columns", name.full, at(path)));
        }
        if self.open.contains(&Some(record)) {
            return Err(format!(
                "the record `{}` holds itself{}: a column cannot; leave that field out of the schema that is read by, and what is written of it is \
                 passed over",
                name.full,
                at(path)
            ));
        }
        self.enter(Some(record), path)?;
        let members = fields.iter().map(|field| Ok((field.name.clone(), self.target(field.of, &joined(path, &field.name))?)));
        let members: Vec<_> = members.collect::<Result<_, String>>()?;
        self.open.pop();
        distinct(&members, path)?;
        Ok(members)
    }

    fn target(&mut self, id: Id, path: &str) -> Result<Target, String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("more than {COLUMNS_MAX} columns, those in structs counted"))?;
        let Kind::Union(branches) = &self.schema.get(id).kind else {
            let kind = self.kind(id, path)?;
            return Ok(Target { is_nullable: matches!(kind, Becomes::Null), kind });
        };
        let is_null = |id: &&Id| matches!(self.schema.get(**id).kind, Kind::Null);
        let is_nullable = branches.iter().any(|id| is_null(&id));
        let values: Vec<Id> = branches.iter().filter(|id| !is_null(id)).copied().collect();
        let kind = match values.as_slice() {
            [] => Becomes::Null,
            [one] => self.kind(*one, path)?,
            several => self.branches(several, path)?,
        };
        Ok(Target { is_nullable, kind })
    }

    fn branches(&mut self, branches: &[Id], path: &str) -> Result<Becomes, String> {
        self.enter(None, path)?;
        let members = branches.iter().map(|branch| {
            self.left = self.left.checked_sub(1).ok_or_else(|| format!("more than {COLUMNS_MAX} columns, those in structs counted"))?;
            let name = branch_name(self.schema, *branch);
            let kind = self.kind(*branch, &joined(path, name))?;
            Ok((name.to_owned(), Target { kind, is_nullable: true }))
        });
        let members: Vec<_> = members.collect::<Result<_, String>>()?;
        self.open.pop();
        distinct(&members, path)?;
        Ok(Becomes::Branches(members))
    }

    fn kind(&mut self, id: Id, path: &str) -> Result<Becomes, String> {
        let of = self.schema.get(id);
        Ok(match (&of.kind, of.logical) {
            (Kind::Bytes | Kind::Fixed { .. }, Some(Logical::Decimal { precision, scale })) => {
                let digits = |digits: u64| u8::try_from(digits).ok().filter(|digits| u64::from(*digits) <= DECIMAL_DIGITS_MAX);
                let (precision, scale) = digits(precision).zip(digits(scale)).ok_or_else(|| {
                    format!(
                        "a decimal of {precision} digits{}: at most {DECIMAL_DIGITS_MAX} are taken; without the `logicalType` it is read as bytes",
                        at(path)
                    )
                })?;
                Becomes::Decimal { precision, scale: i8::try_from(scale).expect("at most 38") }
            }
            (Kind::Fixed { .. }, Some(Logical::Uuid)) => Becomes::Uuid,
            (Kind::Fixed { .. }, Some(Logical::Duration)) => Becomes::Interval,
            (Kind::Int, Some(Logical::Date)) => Becomes::Int(IntOf::Date),
            (Kind::Int, Some(Logical::TimeMillis)) => Becomes::Int(IntOf::TimeMillis),
            (Kind::Long, Some(Logical::TimeMicros)) => Becomes::Long(LongOf::TimeMicros),
            (Kind::Long, Some(Logical::Timestamp(unit))) => Becomes::Long(LongOf::Timestamp(unit)),
            (Kind::Null, _) => Becomes::Null,
            (Kind::Boolean, _) => Becomes::Boolean,
            (Kind::Int, _) => Becomes::Int(IntOf::Number),
            (Kind::Long, _) => Becomes::Long(LongOf::Number),
            (Kind::Float, _) => Becomes::Float,
            (Kind::Double, _) => Becomes::Double,
            (Kind::Bytes | Kind::Fixed { .. }, _) => Becomes::Binary,
            (Kind::String, _) => Becomes::Text,
            (Kind::Enum { symbols, .. }, _) => {
                Becomes::Enum { symbols: symbols.as_slice().into(), is_dictionary: self.open.len() == 1 && !symbols.is_empty() }
            }
            (Kind::Record { .. }, _) => Becomes::Struct(self.members(id, path)?),
            (Kind::Array(item), _) => Becomes::List(Box::new(self.within(*item, path)?)),
            (Kind::Map(value), _) => Becomes::Map(Box::new(self.within(*value, path)?)),
            (Kind::Union(_), _) => unreachable!("a union is not directly in a union"),
        })
    }

    fn within(&mut self, item: Id, path: &str) -> Result<Target, String> {
        self.enter(None, path)?;
        let target = self.target(item, path)?;
        self.open.pop();
        Ok(target)
    }

    fn enter(&mut self, id: Option<Id>, path: &str) -> Result<(), String> {
        if self.open.len() > DEPTH_MAX {
            return Err(format!("structs, lists and maps more than {DEPTH_MAX} deep in each other{}", at(path)));
        }
        self.open.push(id);
        Ok(())
    }
}

/// Returns the name of the member that stands for a branch of a union.
pub(super) fn branch_name(schema: &Schema, branch: Id) -> &str {
    match &schema.get(branch).kind {
        Kind::Fixed { name, .. } | Kind::Enum { name, .. } | Kind::Record { name, .. } => name.short(),
        kind => kind.name(),
    }
}

/// Refuses names that SQL takes for the same.
fn distinct(members: &[(String, Target)], path: &str) -> Result<(), String> {
    let mut seen = std::collections::HashMap::new();
    for (name, _) in members {
        if let Some(before) = seen.insert(name.to_lowercase(), name) {
            return Err(format!(
                "`{before}` and `{name}`{} are one name in SQL, which ignores case: rename one of them, with the other name as its alias",
                at(path)
            ));
        }
    }
    Ok(())
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at `{}`", path.escape_debug()) }
}
