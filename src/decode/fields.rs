//! Fields: which key of a record leads to which column.
//!
//! Owns: the tree of declared paths, and a guess which key comes next: records of one producer mostly have the same keys in the same order.
//! Does not own: the values (see `column`), and the meaning of a key that occurs twice (the careful reading decides).

use std::collections::HashMap;

use super::cursor::Cursor;

/// Unknown keys that are remembered for the guess, in each object.
const UNKNOWN_FIELDS_MAX: usize = 256;
/// Bytes of an unknown key that is remembered.
const UNKNOWN_KEY_BYTES_MAX: usize = 64;

/// The fields of one object.
#[derive(Debug)]
pub(super) struct Fields {
    fields: Vec<Field>,
    index: HashMap<Box<str>, usize>,
    unknown: usize,
    /// Stands for every unknown key that is not remembered.
    forgotten: Target,
    /// The field that came first in the last record.
    first: usize,
}

/// A field of an object.
#[derive(Debug)]
struct Field {
    /// The key in quotes, as it stands in a record; one with a quote in it must not match half of something else.
    token: Box<str>,
    /// The field that followed it last.
    next: usize,
    /// The number of the record that it was last seen in.
    seen: u64,
    target: Target,
}

/// What is done with a field's value.
#[derive(Debug)]
pub(super) enum Target {
    /// It is not declared.
    Unknown,
    /// It is a column's value.
    Column(usize),
    /// Columns are looked for in it.
    Object(Box<Fields>),
    /// More than one of these.
    Several(Vec<Target>),
}

/// Where in the order of an object's keys a reader is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Before the first.
    Start,
    /// Behind this field.
    Behind(usize),
    /// Behind a key that is not remembered.
    Lost,
}

impl Fields {
    /// Builds the tree from the columns' indices and paths.
    pub(super) fn new(paths: &[(usize, &[String])]) -> Self {
        let mut fields = Self { fields: Vec::new(), index: HashMap::new(), unknown: 0, forgotten: Target::Unknown, first: 0 };
        for (_, path) in paths {
            if let [key, ..] = path
                && !fields.index.contains_key(key.as_str())
            {
                fields.add(key, Target::of(key, paths));
            }
        }
        fields
    }

    /// Reads the next key with its colon; `None` = not in a usual form, or twice in this record. Moves `place` behind the key.
    #[inline]
    pub(super) fn key(&mut self, cursor: &mut Cursor<'_>, place: &mut Place, record: u64) -> Option<&mut Target> {
        let guess = match *place {
            Place::Start => Some(self.first),
            Place::Behind(field) => Some(self.fields[field].next),
            Place::Lost => None,
        };
        let guess = guess.filter(|field| self.fields.get(*field).is_some_and(|field| cursor.eat_text(&field.token).is_some()));
        let field = match guess {
            Some(field) => Some(field),
            None => self.find(cursor, *place)?,
        };
        cursor.skip_whitespace();
        cursor.eat(b':')?;
        let Some(index) = field else {
            *place = Place::Lost;
            return Some(&mut self.forgotten);
        };
        *place = Place::Behind(index);
        let field = &mut self.fields[index];
        if !matches!(field.target, Target::Unknown) && std::mem::replace(&mut field.seen, record) == record {
            return None;
        }
        Some(&mut field.target)
    }

    /// Reads a key that was not guessed, and learns from it. `Some(None)` = an unknown key that is not remembered.
    fn find(&mut self, cursor: &mut Cursor<'_>, place: Place) -> Option<Option<usize>> {
        let start = cursor.clone();
        let field = match cursor.plain_string() {
            Some(key) => self.index.get(key).copied().or_else(|| self.remember(key)),
            None => {
                *cursor = start;
                let key: String = serde_json::from_str(cursor.value()?).ok()?;
                self.index.get(key.as_str()).copied()
            }
        };
        if let Some(field) = field {
            match place {
                Place::Start => self.first = field,
                Place::Behind(before) => self.fields[before].next = field,
                Place::Lost => {}
            }
        }
        Some(field)
    }

    fn remember(&mut self, key: &str) -> Option<usize> {
        if self.unknown == UNKNOWN_FIELDS_MAX || key.len() > UNKNOWN_KEY_BYTES_MAX {
            return None;
        }
        self.unknown += 1;
        Some(self.add(key, Target::Unknown))
    }

    fn add(&mut self, key: &str, target: Target) -> usize {
        let index = self.fields.len();
        self.index.insert(key.into(), index);
        let token = serde_json::Value::from(key).to_string().into();
        self.fields.push(Field { token, next: index + 1, seen: 0, target });
        index
    }
}

impl Target {
    /// Collects what the columns want of the value at `key`.
    fn of(key: &str, paths: &[(usize, &[String])]) -> Self {
        let below: Vec<_> = paths.iter().filter(|(_, path)| path.first().is_some_and(|first| first == key)).collect();
        let mut targets: Vec<_> = below.iter().filter(|(_, path)| path.len() == 1).map(|(column, _)| Self::Column(*column)).collect();
        let deeper: Vec<_> = below.iter().filter(|(_, path)| path.len() > 1).map(|(column, path)| (*column, &path[1..])).collect();
        if !deeper.is_empty() {
            targets.push(Self::Object(Box::new(Fields::new(&deeper))));
        }
        match targets.len() {
            1 => targets.remove(0),
            _ => Self::Several(targets),
        }
    }
}
