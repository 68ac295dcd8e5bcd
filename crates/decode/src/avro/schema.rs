//! Avro schemas: their JSON text → the types that they declare.
//!
//! Owns: names and namespaces, which logical type a type has, and what no schema may be: too large, or with names that stand for nothing.
//! Does not own: what becomes of a type in Arrow (see `target`), how the schema of a writer is read as that of a reader (see `plan`).
//!
//! As in the [specification](https://avro.apache.org/docs/1.12.0/specification/). A logical type that is unknown, or does not fit what it stands
//! on, is passed over, as is asked for there.

use std::collections::HashMap;

use arrow::datatypes::TimeUnit;
use itertools::Itertools as _;
use serde_json::{Map, Value};

/// Bytes of the text of a schema.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// Types that a schema declares, references to names not counted.
const TYPES_MAX: usize = 100_000;
/// Bytes of a name: it becomes one of a column.
const NAME_BYTES_MAX: usize = 1_024;

/// A type of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(usize);

/// The types of a schema. They may lie in each other without an end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schema {
    types: Vec<Type>,
    root: Id,
}

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Type {
    pub(super) kind: Kind,
    pub(super) logical: Option<Logical>,
}

/// What a type is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed { name: Name, size: usize },
    Enum { name: Name, symbols: Vec<String>, default: Option<String> },
    Record { name: Name, fields: Vec<Field> },
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
}

/// The name of a type, with its namespace, and other names that a writer may have for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) full: String,
    pub(super) aliases: Vec<String>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) of: Id,
    /// What it is where the writer has no such field.
    pub(super) default: Option<Value>,
}

/// What the values of a type mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Decimal { precision: u64, scale: u64 },
    Uuid,
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp(TimeUnit),
    Duration,
}

impl Name {
    /// Returns the name without its namespace.
    pub(super) fn short(&self) -> &str {
        short(&self.full)
    }
}

fn short(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, short)| short)
}

impl Kind {
    /// Returns what it is called in a schema.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Fixed { name, .. } | Self::Enum { name, .. } | Self::Record { name, .. } => &name.full,
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
        }
    }
}

impl Schema {
    /// Reads the text of a schema. `references` are the texts of those that it names types of, each behind the ones that it names types of.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub(super) fn parse(text: &str, references: &[&str]) -> Result<Self, String> {
        let bytes: usize = references.iter().map(|text| text.len()).sum::<usize>() + text.len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!("a schema of {bytes} bytes: at most {SCHEMA_BYTES_MAX} are taken"));
        }
        let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("not JSON: {error}"));
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for reference in references {
            parser.of(&json(reference)?, "")?;
        }
        let root = parser.of(&json(text)?, "")?;
        Ok(Self { types: parser.types, root })
    }

    /// Returns the type that records are of.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// Returns a type.
    pub(super) fn get(&self, id: Id) -> &Type {
        &self.types[id.0]
    }

    /// Counts the types.
    pub(super) fn len(&self) -> usize {
        self.types.len()
    }

    /// Returns a number of a type, below [`Self::len`].
    pub(super) fn index(&self, id: Id) -> usize {
        id.0
    }

    /// Returns each type.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.types.len()).map(Id)
    }
}

struct Parser {
    types: Vec<Type>,
    names: HashMap<String, Id>,
}

impl Parser {
    /// Reads a type; names without a namespace are of `space`.
    fn of(&mut self, json: &Value, space: &str) -> Result<Id, String> {
        match json {
            Value::String(name) => self.named(name, space),
            Value::Array(branches) => self.union(branches, space),
            Value::Object(object) => self.object(object, space),
            other => Err(format!("expected a type, got {}", shown(other))),
        }
    }

    fn named(&mut self, name: &str, space: &str) -> Result<Id, String> {
        if let Some(kind) = primitive(name) {
            return self.add(kind, None);
        }
        let full = full(name, space);
        let known = self.names.get(&full).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| format!("the type `{}` is declared nowhere before it is used", full.escape_debug()))
    }

    fn union(&mut self, branches: &[Value], space: &str) -> Result<Id, String> {
        if branches.is_empty() {
            return Err("a union without branches".to_owned());
        }
        let branches: Vec<Id> = branches.iter().map(|branch| self.of(branch, space)).collect::<Result<_, _>>()?;
        let kinds = || branches.iter().map(|branch| &self.types[branch.0].kind);
        if kinds().any(|kind| matches!(kind, Kind::Union(_))) {
            return Err("a union directly in a union".to_owned());
        }
        if let Some(twice) = kinds().map(Kind::name).duplicates().next() {
            return Err(format!("a union with `{}` twice", twice.escape_debug()));
        }
        self.add(Kind::Union(branches), None)
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        let declared = match object.get("type") {
            None => return Err("an object without `type`".to_owned()),
            Some(Value::String(name)) => name.as_str(),
            // A type around a type says nothing more.
            Some(inner) => return self.of(inner, space),
        };
        if let Some(kind) = primitive(declared) {
            let logical = logical(object, &kind);
            return self.add(kind, logical);
        }
        match declared {
            "array" => self.items(object, "items", space, Kind::Array),
            "map" => self.items(object, "values", space, Kind::Map),
            "record" | "error" => self.record(object, space),
            "enum" => self.enumeration(object, space),
            "fixed" => self.fixed(object, space),
            name => self.named(name, space),
        }
    }

    fn items(&mut self, object: &Map<String, Value>, key: &str, space: &str, kind: fn(Id) -> Kind) -> Result<Id, String> {
        let items = object.get(key).ok_or_else(|| format!("an array or map without `{key}`"))?;
        let items = self.of(items, space)?;
        self.add(kind(items), None)
    }

    fn fixed(&mut self, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        let name = name_of(object, space)?;
        let size = object.get("size").and_then(Value::as_u64).and_then(|size| i32::try_from(size).ok());
        let size = size.ok_or_else(|| format!("the fixed `{}` needs a `size` in bytes", name.full))?;
        let kind = Kind::Fixed { name: name.clone(), size: usize::try_from(size).expect("it is not negative") };
        let logical = logical(object, &kind);
        let id = self.add(kind, logical)?;
        self.declare(name.full, id)
    }

    fn enumeration(&mut self, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        let name = name_of(object, space)?;
        let wrong = |what: &str| format!("the enum `{}` {what}", name.full);
        let symbols = object.get("symbols").and_then(Value::as_array).ok_or_else(|| wrong("has no `symbols`"))?;
        let symbols: Option<Vec<String>> = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect();
        let symbols = symbols.ok_or_else(|| wrong("has symbols that are no text"))?;
        if let Some(twice) = symbols.iter().duplicates().next() {
            return Err(wrong(&format!("has the symbol `{}` twice", twice.escape_debug())));
        }
        let default = object.get("default").and_then(Value::as_str).map(str::to_owned);
        if default.as_ref().is_some_and(|default| !symbols.contains(default)) {
            return Err(wrong("has a default that is none of its symbols"));
        }
        let id = self.add(Kind::Enum { name: name.clone(), symbols, default }, None)?;
        self.declare(name.full, id)
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        let name = name_of(object, space)?;
        let listed = object.get("fields").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| format!("the record `{}` has no `fields`", name.full))?;
        // Before its fields are read: they may name it.
        let id = self.add(Kind::Record { name: name.clone(), fields: Vec::new() }, None)?;
        let id = self.declare(name.full.clone(), id)?;
        let space = name.full.rsplit_once('.').map_or("", |(space, _)| space);
        let mut fields = Vec::with_capacity(listed.len());
        for field in listed {
            fields.push(self.field(field, space).map_err(|why| format!("{why} (in the record `{}`)", name.full))?);
        }
        if let Some(twice) = fields.iter().map(|field: &Field| &field.name).duplicates().next() {
            return Err(format!("the record `{}` has the field `{twice}` twice", name.full));
        }
        self.types[id.0].kind = Kind::Record { name, fields };
        Ok(id)
    }

    fn field(&mut self, json: &Value, space: &str) -> Result<Field, String> {
        let object = json.as_object().ok_or_else(|| format!("expected a field, got {}", shown(json)))?;
        let name = text_of(object, "name")?;
        let of = object.get("type").ok_or_else(|| format!("the field `{name}` has no `type`"))?;
        let of = self.of(of, space)?;
        Ok(Field { name, aliases: aliases(object).map(str::to_owned).collect(), of, default: object.get("default").cloned() })
    }

    fn add(&mut self, kind: Kind, logical: Option<Logical>) -> Result<Id, String> {
        if self.types.len() == TYPES_MAX {
            return Err(format!("more than {TYPES_MAX} types"));
        }
        self.types.push(Type { kind, logical });
        Ok(Id(self.types.len() - 1))
    }

    fn declare(&mut self, name: String, id: Id) -> Result<Id, String> {
        match self.names.insert(name, id) {
            None => Ok(id),
            Some(_) => Err(format!("the type `{}` is declared twice", self.types[id.0].kind.name())),
        }
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn logical(object: &Map<String, Value>, of: &Kind) -> Option<Logical> {
    let named = object.get("logicalType").and_then(Value::as_str)?;
    Some(match (named, of) {
        ("decimal", Kind::Bytes | Kind::Fixed { .. }) => {
            let precision = object.get("precision").and_then(Value::as_u64).filter(|precision| *precision > 0)?;
            let scale = object.get("scale").map_or(Some(0), Value::as_u64).filter(|scale| *scale <= precision)?;
            Logical::Decimal { precision, scale }
        }
        ("uuid", Kind::String | Kind::Fixed { size: 16, .. }) => Logical::Uuid,
        ("date", Kind::Int) => Logical::Date,
        ("time-millis", Kind::Int) => Logical::TimeMillis,
        ("time-micros", Kind::Long) => Logical::TimeMicros,
        ("timestamp-millis" | "local-timestamp-millis", Kind::Long) => Logical::Timestamp(TimeUnit::Millisecond),
        ("timestamp-micros" | "local-timestamp-micros", Kind::Long) => Logical::Timestamp(TimeUnit::Microsecond),
        ("timestamp-nanos" | "local-timestamp-nanos", Kind::Long) => Logical::Timestamp(TimeUnit::Nanosecond),
        ("duration", Kind::Fixed { size: 12, .. }) => Logical::Duration,
        _ => return None,
    })
}

/// Returns the full name of what is called `name` in a namespace.
fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn name_of(object: &Map<String, Value>, space: &str) -> Result<Name, String> {
    let name = text_of(object, "name")?;
    let space = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
    let full_name = full(&name, space);
    let space = full_name.rsplit_once('.').map_or("", |(space, _)| space);
    Ok(Name { aliases: aliases(object).map(|alias| full(alias, space)).collect(), full: full_name })
}

fn aliases(object: &Map<String, Value>) -> impl Iterator<Item = &str> {
    object.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns a name that can be one of a column.
fn text_of(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    let text = object.get(key).and_then(Value::as_str).ok_or_else(|| format!("a type or field without `{key}`"))?;
    match text {
        "" => Err("a type or field whose name is empty".to_owned()),
        _ if text.len() > NAME_BYTES_MAX => Err(format!("a name of {} bytes: at most {NAME_BYTES_MAX} are taken", text.len())),
        _ if text.contains(char::is_control) => Err(format!("a name with a control character, `{}`", text.escape_debug())),
        _ => Ok(text.to_owned()),
    }
}

fn shown(json: &Value) -> String {
    crate::column::shown(&json.to_string())
}
