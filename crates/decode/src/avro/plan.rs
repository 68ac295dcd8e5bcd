//! Plans: how what a writer has written is read as what is wanted.
//!
//! Owns: the [resolution](https://avro.apache.org/docs/1.12.0/specification/#schema-resolution) of a writer's schema against the reader's, once for
//! each writer: fields by name or alias, defaults, wider numbers, unions on either side; and what is passed over.
//! Does not own: the bytes (see `read`), the values (see `slot`).
//!
//! Names of records, fixed types and enums are compared in unions only, where they tell one branch from another.

use std::collections::HashMap;

use super::default;
use super::schema::{self, Id, Kind, Logical, Schema};
use super::target::{Becomes, IntOf, LongOf, Target};

/// Parts of a plan: those of a schema without unions are as many as its columns.
const PARTS_MAX: usize = 65_536;

/// How a value is read into its slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// Nothing is written: null.
    Null,
    /// It can be written, and not be read: why.
    Refused(Box<str>),
    /// A union with null, which is first or second, and one other branch.
    Nullable {
        null: i64,
        some: Box<Plan>,
    },
    /// A union.
    Union(Box<[Plan]>),
    /// Into the struct of a union's branches, as this one.
    Branch {
        member: usize,
        plan: Box<Plan>,
    },
    Boolean,
    Int(IntOf),
    Long(LongOf),
    IntegerAsFloat,
    IntegerAsDouble,
    Float,
    FloatAsDouble,
    Double,
    Text,
    Binary,
    Fixed {
        size: usize,
    },
    Decimal {
        size: Option<usize>,
        precision: u8,
    },
    Uuid,
    Interval,
    /// The number that each symbol of the writer has for the reader.
    Enum(Box<[Option<i32>]>),
    List(Box<Plan>),
    Map(Box<Plan>),
    Record(Box<Fields>),
}

/// How the fields of a record are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fields {
    /// In the order of the writer.
    pub(super) steps: Vec<Step>,
    /// Of what the writer has not written.
    pub(super) defaults: Vec<Default>,
}

/// What is done with a field that is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// It is read into a slot.
    Read { slot: usize, name: Box<str>, plan: Plan },
    /// It is passed over.
    Skip { name: Box<str>, skip: Skip },
}

/// What a field is that is not written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Default {
    pub(super) slot: usize,
    pub(super) name: Box<str>,
    /// As it would be written.
    pub(super) bytes: Vec<u8>,
    pub(super) plan: Plan,
}

/// How a value is passed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Skip {
    /// So many bytes.
    Bytes(u64),
    Integer,
    /// A length, and as many bytes.
    Sized,
    Items(Box<Skip>),
    Pairs(Box<Skip>),
    Union(Box<[Skip]>),
    /// Those of a record, by its place in [`Resolved::records`].
    Record(usize),
}

/// What takes no bytes. It is left out: so each step of passing over takes a byte at least, and a payload of few takes few of them.
const NOTHING: Skip = Skip::Bytes(0);

/// A writer's schema, resolved against the reader's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resolved {
    pub(super) root: Fields,
    /// How the fields of the writer's records are passed over.
    pub(super) records: Vec<Vec<Skip>>,
    /// Bytes of a record's row beside what its payload has.
    pub(super) allowance: u64,
}

/// Resolves a writer's schema against the reader's, whose columns are `columns`.
///
/// # Errors
/// Why what is written cannot be read, as a clause.
pub(super) fn resolve(writer: &Schema, reader: &Schema, columns: &[(String, Target)]) -> Result<Resolved, String> {
    let mut resolver = Resolver { writer, reader, parts: 0, defaults: 0, skips: Skips::new(writer) };
    let root = match &writer.get(writer.root()).kind {
        Kind::Record { fields, .. } => resolver.fields(fields, reader.root(), columns)?,
        other => return Err(format!("what is written is of type `{}`, and no record", other.name().escape_debug())),
    };
    let width: usize = columns.iter().map(|(_, target)| target.width()).sum();
    let allowance = u64::try_from(width).expect("the number of columns has a limit") + resolver.defaults;
    Ok(Resolved { root, records: resolver.skips.finish(), allowance })
}

struct Resolver<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    parts: usize,
    /// Bytes of defaults.
    defaults: u64,
    skips: Skips<'s>,
}

impl Resolver<'_> {
    /// Resolves a type of the writer, perhaps a union.
    fn value(&mut self, written: Id, wanted: Id, target: &Target) -> Result<Plan, String> {
        let Kind::Union(branches) = &self.writer.get(written).kind else {
            return self.single(written, wanted, target);
        };
        let mut plans = Vec::with_capacity(branches.len());
        let mut why = None;
        for branch in branches {
            plans.push(self.single(*branch, wanted, target).unwrap_or_else(|problem| {
                why.get_or_insert_with(|| problem.clone());
                Plan::Refused(problem.into())
            }));
        }
        if plans.iter().all(|plan| matches!(plan, Plan::Refused(_))) {
            return Err(why.unwrap_or_default());
        }
        let null = plans.iter().position(|plan| *plan == Plan::Null);
        Ok(match (null, plans.len()) {
            (Some(null), 2) => {
                let some = plans.swap_remove(1 - null);
                Plan::Nullable { null: i64::try_from(null).expect("it is 0 or 1"), some: Box::new(some) }
            }
            _ => Plan::Union(plans.into()),
        })
    }

    /// Resolves a type of the writer that is no union.
    fn single(&mut self, written: Id, wanted: Id, target: &Target) -> Result<Plan, String> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(format!("unions of unions that take more than {PARTS_MAX} parts to read"));
        }
        if self.writer.get(written).kind == Kind::Null {
            return if target.is_nullable { Ok(Plan::Null) } else { Err("the value is null, and the column is required".to_owned()) };
        }
        let Kind::Union(branches) = &self.reader.get(wanted).kind else {
            return self.exact(written, wanted, target);
        };
        let branches: Vec<Id> = branches.iter().filter(|branch| self.reader.get(**branch).kind != Kind::Null).copied().collect();
        let Becomes::Branches(members) = &target.kind else {
            let only = branches.first().ok_or_else(|| "expected null".to_owned())?;
            return self.exact(written, *only, target);
        };
        let alike = |branch: &Id| is_alike(self.writer, written, self.reader, *branch);
        let (first, others): (Vec<_>, Vec<_>) = branches.iter().copied().enumerate().partition(|(_, branch)| alike(branch));
        let mut why = String::new();
        for (member, branch) in first.into_iter().chain(others) {
            match self.exact(written, branch, &members[member].1) {
                Ok(plan) => return Ok(Plan::Branch { member, plan: Box::new(plan) }),
                Err(problem) => why = problem,
            }
        }
        Err(why)
    }

    /// Resolves a type against one, neither of which is a union.
    fn exact(&mut self, written: Id, wanted: Id, target: &Target) -> Result<Plan, String> {
        let (from, to) = (self.writer.get(written), self.reader.get(wanted));
        check_meaning(from.logical, to.logical)?;
        Ok(match (&from.kind, &to.kind, &target.kind) {
            (Kind::Boolean, Kind::Boolean, _) => Plan::Boolean,
            (Kind::Int, Kind::Int, Becomes::Int(of)) => Plan::Int(*of),
            (Kind::Int | Kind::Long, Kind::Long, Becomes::Long(of)) => Plan::Long(*of),
            (Kind::Int | Kind::Long, Kind::Float, _) => Plan::IntegerAsFloat,
            (Kind::Int | Kind::Long, Kind::Double, _) => Plan::IntegerAsDouble,
            (Kind::Float, Kind::Float, _) => Plan::Float,
            (Kind::Float, Kind::Double, _) => Plan::FloatAsDouble,
            (Kind::Double, Kind::Double, _) => Plan::Double,
            (Kind::Bytes | Kind::String, Kind::Bytes, Becomes::Decimal { precision, .. }) => {
                Plan::Decimal { size: None, precision: *precision }
            }
            (Kind::Bytes | Kind::String, Kind::Bytes, _) => Plan::Binary,
            (Kind::Bytes | Kind::String, Kind::String, _) => Plan::Text,
            (Kind::Fixed { size, .. }, Kind::Fixed { size: expected, .. }, becomes) if size == expected => match becomes {
                Becomes::Decimal { precision, .. } => Plan::Decimal { size: Some(*size), precision: *precision },
                Becomes::Uuid => Plan::Uuid,
                Becomes::Interval => Plan::Interval,
                _ => Plan::Fixed { size: *size },
            },
            (Kind::Enum { symbols: from, .. }, Kind::Enum { symbols: to, default, .. }, _) => {
                Plan::Enum(symbols(from, to, default.as_ref()))
            }
            (Kind::Array(from), Kind::Array(to), Becomes::List(item)) => Plan::List(Box::new(self.value(*from, *to, item)?)),
            (Kind::Map(from), Kind::Map(to), Becomes::Map(value)) => Plan::Map(Box::new(self.value(*from, *to, value)?)),
            (Kind::Record { fields, .. }, Kind::Record { .. }, Becomes::Struct(members)) => {
                Plan::Record(Box::new(self.fields(fields, wanted, members)?))
            }
            (Kind::Fixed { size, .. }, Kind::Fixed { size: expected, .. }, _) => {
                return Err(format!("{size} bytes are written, {expected} expected"));
            }
            (from, to, _) => return Err(format!("`{}` is written, `{}` expected", from.name().escape_debug(), to.name().escape_debug())),
        })
    }

    fn fields(&mut self, written: &[schema::Field], wanted: Id, members: &[(String, Target)]) -> Result<Fields, String> {
        let reader = self.reader;
        let Kind::Record { fields, .. } = &reader.get(wanted).kind else { unreachable!("the caller looked") };
        let places: HashMap<&str, usize> = written.iter().enumerate().map(|(place, field)| (field.name.as_str(), place)).collect();
        let mut slots: Vec<Option<usize>> = vec![None; written.len()];
        let mut defaults = Vec::new();
        for (slot, field) in fields.iter().enumerate() {
            let names = [&field.name].into_iter().chain(&field.aliases);
            match names.filter_map(|name| places.get(name.as_str())).find(|place| slots[**place].is_none()) {
                Some(place) => slots[*place] = Some(slot),
                None => defaults.push(self.default(slot, field, &members[slot].1)?),
            }
        }
        let mut steps = Vec::with_capacity(written.len());
        for (field, slot) in written.iter().zip(slots) {
            match slot {
                Some(slot) => {
                    let (name, target) = &members[slot];
                    let plan = self.value(field.of, fields[slot].of, target).map_err(|why| format!("`{}`: {why}", name.escape_debug()))?;
                    steps.push(Step::Read { slot, name: name.as_str().into(), plan });
                }
                None => match self.skips.of(field.of) {
                    NOTHING => {}
                    skip => steps.push(Step::Skip { name: field.name.as_str().into(), skip }),
                },
            }
        }
        Ok(Fields { steps, defaults })
    }

    fn default(&mut self, slot: usize, field: &schema::Field, target: &Target) -> Result<Default, String> {
        let name = field.name.escape_debug();
        let json = field.default.as_ref().ok_or_else(|| format!("`{name}` is not written, and has no default"))?;
        let bytes = default::encode(self.reader, field.of, json).map_err(|why| format!("the default of `{name}`: {why}"))?;
        self.defaults += u64::try_from(bytes.len()).expect("defaults have a limit") + 1;
        let mut own = Resolver { writer: self.reader, skips: Skips::new(self.reader), reader: self.reader, parts: self.parts, defaults: 0 };
        let plan = own.value(field.of, field.of, target)?;
        self.parts = own.parts;
        Ok(Default { slot, name: field.name.as_str().into(), bytes, plan })
    }
}

/// Returns whether a type is of the same kind as another, and of the same name where it has one.
fn is_alike(writer: &Schema, written: Id, reader: &Schema, wanted: Id) -> bool {
    match (&writer.get(written).kind, &reader.get(wanted).kind) {
        (Kind::Fixed { name: from, .. }, Kind::Fixed { name: to, .. })
        | (Kind::Enum { name: from, .. }, Kind::Enum { name: to, .. })
        | (Kind::Record { name: from, .. }, Kind::Record { name: to, .. }) => {
            from.full == to.full || to.aliases.contains(&from.full) || from.short() == to.short()
        }
        (from, to) => std::mem::discriminant(from) == std::mem::discriminant(to),
    }
}

/// Refuses values that would be read as something else than they were written as.
fn check_meaning(written: Option<Logical>, wanted: Option<Logical>) -> Result<(), String> {
    let (Some(written), Some(wanted)) = (written, wanted) else { return Ok(()) };
    let is_same = match (written, wanted) {
        (Logical::Decimal { scale: from, .. }, Logical::Decimal { scale: to, .. }) => from == to,
        _ => written == wanted,
    };
    if is_same { Ok(()) } else { Err(format!("{} is written, {} expected", called(written), called(wanted))) }
}

fn called(logical: Logical) -> String {
    match logical {
        Logical::Decimal { scale, .. } => format!("a decimal of {scale} digits behind the point"),
        Logical::Uuid => "uuid".to_owned(),
        Logical::Date => "date".to_owned(),
        Logical::TimeMillis => "time-millis".to_owned(),
        Logical::TimeMicros => "time-micros".to_owned(),
        Logical::Timestamp(unit) => format!("a timestamp in {unit}"),
        Logical::Duration => "duration".to_owned(),
    }
}

fn symbols(written: &[String], wanted: &[String], default: Option<&String>) -> Box<[Option<i32>]> {
    let numbers: HashMap<&String, i32> = wanted.iter().zip(0..).collect();
    let default = default.and_then(|symbol| numbers.get(symbol)).copied();
    written.iter().map(|symbol| numbers.get(symbol).copied().or(default)).collect()
}

/// How the types of a writer are passed over.
struct Skips<'s> {
    schema: &'s Schema,
    /// Bytes of the types that always take as many; known of all once one was asked for.
    sizes: Vec<Option<u64>>,
    /// The place of a record in `records`.
    places: HashMap<Id, usize>,
    records: Vec<Vec<Skip>>,
    /// Records whose fields were not looked at.
    left: Vec<Id>,
}

impl<'s> Skips<'s> {
    fn new(schema: &'s Schema) -> Self {
        Self { schema, sizes: Vec::new(), places: HashMap::new(), records: Vec::new(), left: Vec::new() }
    }

    fn of(&mut self, id: Id) -> Skip {
        if self.sizes.is_empty() {
            self.sizes = sizes(self.schema);
        }
        if let Some(bytes) = self.sizes[self.schema.index(id)] {
            return Skip::Bytes(bytes);
        }
        match &self.schema.get(id).kind {
            Kind::Bytes | Kind::String => Skip::Sized,
            Kind::Array(item) => Skip::Items(Box::new(self.of(*item))),
            Kind::Map(value) => Skip::Pairs(Box::new(self.of(*value))),
            Kind::Union(branches) => Skip::Union(branches.iter().map(|branch| self.of(*branch)).collect()),
            Kind::Record { .. } => {
                let next = self.places.len();
                Skip::Record(*self.places.entry(id).or_insert_with(|| {
                    self.left.push(id);
                    next
                }))
            }
            _ => Skip::Integer,
        }
    }

    /// Returns how the records are passed over, each at its place.
    fn finish(mut self) -> Vec<Vec<Skip>> {
        while let Some(id) = self.left.pop() {
            let schema = self.schema;
            let Kind::Record { fields, .. } = &schema.get(id).kind else { unreachable!("only records are left") };
            let skips = fields.iter().map(|field| self.of(field.of)).filter(|skip| *skip != NOTHING).collect();
            let place = self.places[&id];
            if self.records.len() <= place {
                self.records.resize(place + 1, Vec::new());
            }
            self.records[place] = skips;
        }
        self.records
    }
}

/// Returns the bytes of each type that always takes as many. So records of records, of which few lines of a schema declare millions, take no time.
fn sizes(schema: &Schema) -> Vec<Option<u64>> {
    /// `None` = not known yet, or being looked at: a type within itself is of no fixed size.
    fn size(schema: &Schema, id: Id, known: &mut [Option<Option<u64>>]) -> Option<u64> {
        let place = schema.index(id);
        if let Some(known) = known[place] {
            return known;
        }
        known[place] = Some(None);
        let size = match &schema.get(id).kind {
            Kind::Null => Some(0),
            Kind::Boolean => Some(1),
            Kind::Float => Some(4),
            Kind::Double => Some(8),
            Kind::Fixed { size, .. } => u64::try_from(*size).ok(),
            Kind::Record { fields, .. } => {
                fields.iter().try_fold(0u64, |sum, field| Some(sum.saturating_add(size_of_field(schema, field.of, known)?)))
            }
            _ => None,
        };
        known[place] = Some(size);
        size
    }
    fn size_of_field(schema: &Schema, id: Id, known: &mut [Option<Option<u64>>]) -> Option<u64> {
        size(schema, id, known)
    }
    let mut known = vec![None; schema.len()];
    // In the order of declaration: what a name stands for is known where it is named, so this goes down no further than the text does.
    schema.ids().map(|id| size(schema, id, &mut known)).collect()
}
