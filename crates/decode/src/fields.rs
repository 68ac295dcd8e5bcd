//! Fields: which key of a record leads to which column.
//!
//! Owns: the tree of declared paths, and a guess which key comes next: records of one producer mostly have the same keys in the same order.
//! Does not own: the values (see `column`), and the meaning of a key that occurs twice (the careful reading decides).

use std::collections::HashMap;

use super::cursor::{Cursor, Token};

/// Unknown keys that are remembered for the guess, in each object.
const UNKNOWN_FIELDS_MAX: usize = 256;
/// Bytes of an unknown key that is remembered.
const UNKNOWN_KEY_BYTES_MAX: usize = 64;

/// The fields of one object.
#[derive(Debug)]
pub(super) struct Fields {
    /// The first one, [`FORGOTTEN`], stands for every unknown key that is not remembered.
    fields: Vec<Field>,
    index: HashMap<Box<str>, usize>,
    unknown: usize,
    /// The field that came first in the last record.
    first: usize,
}

/// A field of an object.
#[derive(Debug)]
struct Field {
    /// `"key"`, as it stands in a record: with its quotes, so that it matches no half of something else.
    key: Token,
    /// `{"key":`, as it stands where the field is the first.
    opening: Token,
    /// `,"key":`, as it stands behind another.
    following: Token,
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
}

/// The index of the field for unknown keys that are not remembered.
const FORGOTTEN: usize = 0;

impl Fields {
    /// Builds the tree from the columns' indices and paths.
    pub(super) fn new(paths: &[(usize, &[String])]) -> Self {
        let mut fields = Self { fields: vec![Field::new("", 1, Target::Unknown)], index: HashMap::new(), unknown: 0, first: 1 };
        for (_, path) in paths {
            if let [key, ..] = path
                && !fields.index.contains_key(key.as_str())
            {
                fields.add(key, Target::of(key, paths));
            }
        }
        fields
    }

    /// Passes `{"key":` if the object begins with the same key as the last one, written as usual.
    #[inline]
    pub(super) fn first_as_before(&self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let field = self.fields.get(self.first)?;
        cursor.eat_token(&field.opening).map(|()| self.first)
    }

    /// Passes `,"key":` if the same key follows as the last time, written as usual.
    #[inline]
    pub(super) fn next_as_before(&self, cursor: &mut Cursor<'_>, field: usize) -> Option<usize> {
        let next = self.fields[field].next;
        cursor.eat_token(&self.fields.get(next)?.following).map(|()| next)
    }

    /// Reads the next key with its colon, in any form, and learns from it.
    pub(super) fn key(&mut self, cursor: &mut Cursor<'_>, place: Place) -> Option<usize> {
        let guess = match place {
            Place::Start => self.first,
            Place::Behind(field) => self.fields[field].next,
        };
        let guessed = self.fields.get(guess).is_some_and(|field| cursor.eat_token(&field.key).is_some());
        let field = if guessed { guess } else { self.find(cursor)? };
        if field != FORGOTTEN {
            match place {
                Place::Start => self.first = field,
                Place::Behind(before) => self.fields[before].next = field,
            }
        }
        cursor.skip_whitespace();
        cursor.eat(b':')?;
        Some(field)
    }

    /// Returns what is done with a field's value; `None` = it is there twice in this record.
    #[inline]
    pub(super) fn target(&mut self, field: usize, record: u64) -> Option<&mut Target> {
        let field = &mut self.fields[field];
        if !matches!(field.target, Target::Unknown) && std::mem::replace(&mut field.seen, record) == record {
            return None;
        }
        Some(&mut field.target)
    }

    /// Reads a key that was not guessed.
    fn find(&mut self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let start = cursor.at();
        if let Some(key) = cursor.plain_string() {
            let known = self.index.get(key).copied();
            return known.or_else(|| Some(self.remember(key)));
        }
        cursor.go_back(start);
        let key: String = serde_json::from_str(cursor.value()?).ok()?;
        Some(self.index.get(key.as_str()).copied().unwrap_or(FORGOTTEN))
    }

    fn remember(&mut self, key: &str) -> usize {
        if self.unknown == UNKNOWN_FIELDS_MAX || key.len() > UNKNOWN_KEY_BYTES_MAX {
            return FORGOTTEN;
        }
        self.unknown += 1;
        self.add(key, Target::Unknown)
    }

    fn add(&mut self, key: &str, target: Target) -> usize {
        let index = self.fields.len();
        self.index.insert(key.into(), index);
        self.fields.push(Field::new(key, index + 1, target));
        index
    }
}

impl Field {
    fn new(key: &str, next: usize, target: Target) -> Self {
        let key = serde_json::Value::from(key).to_string();
        let (opening, following) = (format!("{{{key}:"), format!(",{key}:"));
        Self { key: Token::new(key), opening: Token::new(opening), following: Token::new(following), next, seen: 0, target }
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
