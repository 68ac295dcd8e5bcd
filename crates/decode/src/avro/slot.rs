//! Slots: one column while a batch is decoded, and the columns within it.
//!
//! Owns: the values so far, which of them are null, and cutting both back to the rows that are good.
//! Does not own: what bytes become a value (see `read`), which column there is for a type (see `target`).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, MapArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, FieldRef, Fields, IntervalMonthDayNano, Time32MillisecondType, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use super::target::{Becomes, Target, entries, fields};

/// A column and its values so far.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) values: Values,
    /// Which of them are there; `None` where all are.
    nulls: Option<NullBufferBuilder>,
    data_type: DataType,
    /// What a null value takes, beside those of lists.
    pub(super) width: u64,
}

/// The values of a column, nulls filled in.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(Vec<bool>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    Interval(Vec<IntervalMonthDayNano>),
    Text(Strings),
    Binary(Strings),
    Enum { numbers: Vec<i32>, symbols: ArrayRef },
    List(Box<Lists>),
    Map(Box<Maps>),
    Struct(Structs),
}

/// Texts, or bytes, one behind the other.
#[derive(Debug)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    ends: Ends,
}

/// Where each of some lists ends.
#[derive(Debug)]
struct Ends(Vec<i32>);

/// Lists.
#[derive(Debug)]
pub(super) struct Lists {
    ends: Ends,
    pub(super) items: Slot,
    field: FieldRef,
}

/// Maps.
#[derive(Debug)]
pub(super) struct Maps {
    ends: Ends,
    pub(super) keys: Strings,
    pub(super) values: Slot,
    entries: FieldRef,
}

/// Structs.
#[derive(Debug)]
pub(super) struct Structs {
    len: usize,
    pub(super) members: Vec<Slot>,
    fields: Fields,
}

impl Slot {
    /// Makes an empty column.
    pub(super) fn new(target: &Target) -> Self {
        let nulls = target.is_nullable.then(|| NullBufferBuilder::new(0));
        let width = u64::try_from(target.width()).expect("the number of columns has a limit");
        Self { values: Values::new(&target.kind), nulls, data_type: target.data_type(), width }
    }

    /// Marks the value that was appended last as one.
    #[inline(always)]
    pub(super) fn some(&mut self) {
        if let Some(nulls) = &mut self.nulls {
            nulls.append_non_null();
        }
    }

    /// Appends a null; where there can be none, a place that a null around it covers.
    pub(super) fn null(&mut self) {
        self.values.fill();
        if let Some(nulls) = &mut self.nulls {
            nulls.append_null();
        }
    }

    /// Drops the values behind the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        if let Some(nulls) = &mut self.nulls {
            nulls.truncate(len);
        }
    }

    /// Hands out the array, and is empty again.
    ///
    /// # Errors
    /// Arrow's, if the values do not fit their own type.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.as_mut().and_then(NullBufferBuilder::finish);
        self.values.finish(nulls, &self.data_type)
    }
}

impl Values {
    fn new(kind: &Becomes) -> Self {
        match kind {
            Becomes::Boolean => Self::Boolean(Vec::new()),
            Becomes::Int(_) => Self::Int(Vec::new()),
            Becomes::Long(_) => Self::Long(Vec::new()),
            Becomes::Float => Self::Float(Vec::new()),
            Becomes::Double => Self::Double(Vec::new()),
            Becomes::Decimal { .. } => Self::Decimal(Vec::new()),
            Becomes::Interval => Self::Interval(Vec::new()),
            Becomes::Null | Becomes::Text | Becomes::Uuid => Self::Text(Strings::new()),
            Becomes::Binary => Self::Binary(Strings::new()),
            Becomes::Enum { symbols, .. } => {
                Self::Enum { numbers: Vec::new(), symbols: Arc::new(StringArray::from_iter_values(symbols.iter())) }
            }
            Becomes::List(item) => {
                Self::List(Box::new(Lists { ends: Ends::new(), items: Slot::new(item), field: Arc::new(item.field("item")) }))
            }
            Becomes::Map(value) => {
                Self::Map(Box::new(Maps { ends: Ends::new(), keys: Strings::new(), values: Slot::new(value), entries: entries(value) }))
            }
            Becomes::Struct(members) | Becomes::Branches(members) => Self::Struct(Structs {
                len: 0,
                members: members.iter().map(|(_, member)| Slot::new(member)).collect(),
                fields: fields(members),
            }),
        }
    }

    fn fill(&mut self) {
        match self {
            Self::Boolean(values) => values.push(false),
            Self::Int(values) => values.push(0),
            Self::Long(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Double(values) => values.push(0.0),
            Self::Decimal(values) => values.push(0),
            Self::Interval(values) => values.push(IntervalMonthDayNano::ZERO),
            Self::Text(strings) | Self::Binary(strings) => strings.push(b""),
            Self::Enum { numbers, .. } => numbers.push(0),
            Self::List(lists) => lists.end(),
            Self::Map(maps) => maps.end(),
            Self::Struct(structs) => {
                structs.members.iter_mut().for_each(Slot::null);
                structs.end();
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(values) => values.truncate(len),
            Self::Int(values) => values.truncate(len),
            Self::Long(values) => values.truncate(len),
            Self::Float(values) => values.truncate(len),
            Self::Double(values) => values.truncate(len),
            Self::Decimal(values) => values.truncate(len),
            Self::Interval(values) => values.truncate(len),
            Self::Text(strings) | Self::Binary(strings) => strings.truncate(len),
            Self::Enum { numbers, .. } => numbers.truncate(len),
            Self::List(lists) => {
                let items = lists.ends.truncate(len);
                lists.items.truncate(items);
            }
            Self::Map(maps) => {
                let pairs = maps.ends.truncate(len);
                maps.keys.truncate(pairs);
                maps.values.truncate(pairs);
            }
            Self::Struct(structs) => {
                structs.members.iter_mut().for_each(|member| member.truncate(len));
                structs.len = structs.len.min(len);
            }
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>, of: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(values) => {
                let bits = BooleanBuffer::from(values.as_slice());
                values.clear();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Self::Int(values) => ints(taken(values), nulls, of),
            Self::Long(values) => longs(taken(values), nulls, of),
            Self::Float(values) => Arc::new(Float32Array::new(taken(values), nulls)),
            Self::Double(values) => Arc::new(Float64Array::new(taken(values), nulls)),
            Self::Decimal(values) => Arc::new(Decimal128Array::new(taken(values), nulls).with_data_type(of.clone())),
            Self::Interval(values) => Arc::new(IntervalMonthDayNanoArray::new(taken(values), nulls)),
            Self::Text(strings) => Arc::new(strings.finish_texts(nulls)?),
            Self::Binary(strings) => {
                let (bytes, ends) = strings.finish();
                Arc::new(BinaryArray::try_new(ends, bytes, nulls)?)
            }
            Self::Enum { numbers, symbols } => {
                let numbers = Int32Array::new(taken(numbers), nulls);
                match of {
                    DataType::Utf8 => arrow::compute::take(symbols, &numbers, None)?,
                    _ => Arc::new(DictionaryArray::try_new(numbers, symbols.clone())?),
                }
            }
            Self::List(lists) => {
                let items = lists.items.finish()?;
                Arc::new(ListArray::try_new(lists.field.clone(), lists.ends.finish(), items, nulls)?)
            }
            Self::Map(maps) => {
                let DataType::Struct(pair) = maps.entries.data_type() else { unreachable!("a map is made of pairs") };
                let (keys, values) = (Arc::new(maps.keys.finish_texts(None)?), maps.values.finish()?);
                let pairs = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
                Arc::new(MapArray::try_new(maps.entries.clone(), maps.ends.finish(), pairs, nulls, false)?)
            }
            Self::Struct(structs) => {
                let members = structs.members.iter_mut().map(Slot::finish).collect::<Result<_, _>>()?;
                structs.len = 0;
                Arc::new(StructArray::try_new(structs.fields.clone(), members, nulls)?)
            }
        })
    }
}

fn ints(values: ScalarBuffer<i32>, nulls: Option<NullBuffer>, of: &DataType) -> ArrayRef {
    match of {
        DataType::Date32 => Arc::new(PrimitiveArray::<Date32Type>::new(values, nulls)),
        DataType::Time32(_) => Arc::new(PrimitiveArray::<Time32MillisecondType>::new(values, nulls)),
        _ => Arc::new(Int32Array::new(values, nulls)),
    }
}

fn longs(values: ScalarBuffer<i64>, nulls: Option<NullBuffer>, of: &DataType) -> ArrayRef {
    match of {
        DataType::Time64(_) => Arc::new(PrimitiveArray::<Time64MicrosecondType>::new(values, nulls)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(values, nulls)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::new(values, nulls)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Arc::new(PrimitiveArray::<TimestampNanosecondType>::new(values, nulls)),
        _ => Arc::new(Int64Array::new(values, nulls)),
    }
}

/// Takes values out, with room for as many.
fn taken<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let next = Vec::with_capacity(values.len());
    ScalarBuffer::from(std::mem::replace(values, next))
}

impl Strings {
    fn new() -> Self {
        Self { bytes: Vec::new(), ends: Ends::new() }
    }

    /// Appends one.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Returns those from the `first` on.
    pub(super) fn from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        self.ends.0[first..].windows(2).map(|ends| &self.bytes[position(ends[0])..position(ends[1])])
    }

    /// Counts them.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn truncate(&mut self, len: usize) {
        let bytes = self.ends.truncate(len);
        self.bytes.truncate(bytes);
    }

    fn finish(&mut self) -> (Buffer, OffsetBuffer<i32>) {
        let next = Vec::with_capacity(self.bytes.len());
        (Buffer::from_vec(std::mem::replace(&mut self.bytes, next)), self.ends.finish())
    }

    fn finish_texts(&mut self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        let (bytes, ends) = self.finish();
        StringArray::try_new(ends, bytes, nulls)
    }
}

impl Ends {
    fn new() -> Self {
        Self(vec![0])
    }

    fn len(&self) -> usize {
        self.0.len() - 1
    }

    #[inline]
    fn push(&mut self, end: usize) {
        self.0.push(i32::try_from(end).expect("what a batch becomes was measured"));
    }

    /// Drops those behind the first `len`, and returns where the last one ends then.
    fn truncate(&mut self, len: usize) -> usize {
        self.0.truncate(len + 1);
        self.0.last().map_or(0, |end| position(*end))
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        let mut next = Vec::with_capacity(self.0.len());
        next.push(0);
        OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.0, next)))
    }
}

fn position(end: i32) -> usize {
    usize::try_from(end).expect("ends count up from 0")
}

impl Lists {
    /// Ends a list, of the items since the one before.
    pub(super) fn end(&mut self) {
        self.ends.push(self.items.len());
    }
}

impl Maps {
    /// Ends a map, of the pairs since the one before.
    pub(super) fn end(&mut self) {
        self.ends.push(self.keys.len());
    }

    /// Returns the keys since the last end.
    pub(super) fn open_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.from(self.ends.0.last().map_or(0, |end| position(*end)))
    }
}

impl Structs {
    /// Ends a struct, whose members have a value each since the one before.
    pub(super) fn end(&mut self) {
        self.len += 1;
    }

    /// Appends nulls to all members but one.
    pub(super) fn nulls_but(&mut self, member: usize) {
        self.members.iter_mut().enumerate().filter(|(other, _)| *other != member).for_each(|(_, slot)| slot.null());
    }
}

impl Slot {
    /// Counts the values.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::Long(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Double(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Interval(values) => values.len(),
            Values::Text(strings) | Values::Binary(strings) => strings.len(),
            Values::Enum { numbers, .. } => numbers.len(),
            Values::List(lists) => lists.ends.len(),
            Values::Map(maps) => maps.ends.len(),
            Values::Struct(structs) => structs.len,
        }
    }
}
