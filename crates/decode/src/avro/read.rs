//! Reading: the bytes of a record → its values, each straight into its slot.
//!
//! Owns: the binary encoding, and what of it is refused: what ends early, or lies about lengths, or becomes far more than it was.
//! Does not own: the order of what is read (see `plan`), the columns (see `slot`), whether bytes are left (see `rows`).
//!
//! A length is believed only as far as bytes are there for it. What takes no bytes, or few, and much memory (items of lists and maps, nulls in
//! place of structs, defaults) is paid from a budget that follows from the length of the payload, before any of it is made.

use std::collections::HashSet;

use arrow::datatypes::IntervalMonthDayNano;

use super::plan::{Fields, Plan, Skip, Step};
use super::slot::{Slot, Values};
use super::target::{IntOf, LongOf};
use crate::time;

/// Bytes that lists and maps of a record may take for each byte of its payload. Nulls of a decimal take 16.
pub(super) const EXPANSION_MAX: u64 = 32;
/// Records in each other that are passed over.
const DEPTH_MAX: u32 = 128;
/// Keys of a map that are compared one by one.
const FEW_KEYS: usize = 16;
const DAY_MILLIS: i32 = 86_400_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Why a record cannot be read, and where.
#[derive(Debug)]
pub(super) struct Fault(Box<Reason>);

#[derive(Debug)]
struct Reason {
    /// The names of the fields, the innermost first.
    path: Vec<Box<str>>,
    why: String,
}

type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    #[cold]
    fn new(why: impl Into<String>) -> Self {
        Self(Box::new(Reason { path: Vec::new(), why: why.into() }))
    }

    #[cold]
    fn short() -> Self {
        Self::new("the payload ends within it")
    }

    #[cold]
    fn within(mut self, name: &str) -> Self {
        self.0.path.push(name.into());
        self
    }

    /// Returns the reason.
    #[cold]
    pub(super) fn told(self) -> String {
        let Reason { path, why } = *self.0;
        let names: Vec<_> = path.iter().rev().map(|name| name.as_ref()).collect();
        if names.is_empty() { why } else { format!("column `{}`: {why}", names.join(".")) }
    }
}

/// What is left of a payload.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// What may still be made of few bytes.
    budget: u64,
    depth: u32,
    /// How the writer's records are passed over.
    records: &'a [Vec<Skip>],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: u64, records: &'a [Vec<Skip>]) -> Self {
        Self { bytes, budget, depth: 0, records }
    }

    /// Counts the bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Returns what is left of the budget.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    #[inline(always)]
    fn long(&mut self) -> Result<i64> {
        match self.bytes {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.bytes = rest;
                Ok(signed(u64::from(*byte)))
            }
            _ => self.long_of_several(),
        }
    }

    /// Reads an integer of more than a byte.
    #[inline]
    fn long_of_several(&mut self) -> Result<i64> {
        let mut value = 0u64;
        for (place, byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                if place == 9 && *byte > 1 {
                    return Err(Fault::new("an integer of more than 64 bits"));
                }
                self.bytes = &self.bytes[place + 1..];
                return Ok(signed(value));
            }
        }
        Err(if self.bytes.len() < 10 { Fault::short() } else { Fault::new("an integer of more than 64 bits") })
    }

    #[inline(always)]
    fn int(&mut self) -> Result<i32> {
        let value = self.long()?;
        i32::try_from(value).map_err(|_| Fault::new(format!("{value} is no int of 32 bits")))
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (value, rest) = self.bytes.split_first_chunk().ok_or_else(Fault::short)?;
        self.bytes = rest;
        Ok(*value)
    }

    #[inline(always)]
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (value, rest) = self.bytes.split_at_checked(count).ok_or_else(Fault::short)?;
        self.bytes = rest;
        Ok(value)
    }

    /// Reads a length and as many bytes.
    #[inline(always)]
    fn sized(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        let fits = usize::try_from(length).ok().filter(|length| *length <= self.bytes.len());
        let length = fits.ok_or_else(|| Fault::new(format!("a length of {length} bytes, where {} are left", self.bytes.len())))?;
        self.take(length)
    }

    /// Pays for what is to be made.
    fn pay(&mut self, times: u64, bytes: u64) -> Result<()> {
        let left = times.checked_mul(bytes).and_then(|cost| self.budget.checked_sub(cost));
        self.budget = left.ok_or_else(|| {
            Fault::new(format!("what it holds takes more than {EXPANSION_MAX} times the bytes of the payload ({times} times {bytes} more)"))
        })?;
        Ok(())
    }

    /// Reads the head of a block of items: how many there are, and how many bytes are left behind it where that is said.
    fn block(&mut self) -> Result<Option<(u64, Option<usize>)>> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count > 0).then_some((count.unsigned_abs(), None)));
        }
        let size = self.long()?;
        let behind = usize::try_from(size).ok().and_then(|size| self.bytes.len().checked_sub(size));
        let behind = behind.ok_or_else(|| Fault::new(format!("a block of {size} bytes, where {} are left", self.bytes.len())))?;
        Ok(Some((count.unsigned_abs(), Some(behind))))
    }

    fn end_of_block(&self, behind: Option<usize>) -> Result<()> {
        match behind {
            Some(behind) if behind != self.bytes.len() => Err(Fault::new("a block that is not as long as it says")),
            _ => Ok(()),
        }
    }

    /// Returns the branch of a union of so many.
    fn branch(&mut self, branches: usize) -> Result<usize> {
        let branch = self.long()?;
        let fits = usize::try_from(branch).ok().filter(|branch| *branch < branches);
        fits.ok_or_else(|| Fault::new(format!("branch {branch} of a union of {branches}")))
    }

    fn skip(&mut self, skip: &Skip) -> Result<()> {
        match skip {
            Skip::Bytes(bytes) => usize::try_from(*bytes).map_err(|_| Fault::short()).and_then(|bytes| self.take(bytes)).map(drop),
            Skip::Integer => self.long().map(drop),
            Skip::Sized => self.sized().map(drop),
            Skip::Union(branches) => {
                let branch = self.branch(branches.len())?;
                self.skip(&branches[branch])
            }
            Skip::Record(place) => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Fault::new(format!("records more than {DEPTH_MAX} deep in each other")));
                }
                let records = self.records;
                records[*place].iter().try_for_each(|skip| self.skip(skip))?;
                self.depth -= 1;
                Ok(())
            }
            Skip::Items(item) => self.skip_blocks(item, false),
            Skip::Pairs(value) => self.skip_blocks(value, true),
        }
    }

    fn skip_blocks(&mut self, item: &Skip, has_keys: bool) -> Result<()> {
        while let Some((count, behind)) = self.block()? {
            match (behind, item) {
                (Some(behind), _) => self.bytes = &self.bytes[self.bytes.len() - behind..],
                (None, Skip::Bytes(bytes)) if !has_keys => {
                    let all = count.checked_mul(*bytes).ok_or_else(Fault::short)?;
                    self.skip(&Skip::Bytes(all))?;
                }
                (None, _) => {
                    for _ in 0..count {
                        if has_keys {
                            self.sized()?;
                        }
                        self.skip(item)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the integer that has its sign in the last bit.
#[inline(always)]
fn signed(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Reads the fields of a record, each into its slot.
#[inline]
pub(super) fn fields(fields: &Fields, slots: &mut [Slot], cursor: &mut Cursor<'_>) -> Result<()> {
    for step in &fields.steps {
        match step {
            Step::Read { slot, name, plan } => value(plan, &mut slots[*slot], cursor).map_err(|fault| fault.within(name))?,
            Step::Skip { name, skip } => cursor.skip(skip).map_err(|fault| fault.within(name))?,
        }
    }
    for default in &fields.defaults {
        let bytes = u64::try_from(default.bytes.len()).expect("a default has a limit");
        cursor.pay(1, bytes + 1)?;
        let mut own = Cursor::new(&default.bytes, cursor.budget, &[]);
        value(&default.plan, &mut slots[default.slot], &mut own).map_err(|fault| fault.within(&default.name))?;
        cursor.budget = own.budget;
    }
    Ok(())
}

/// Reads a value into its slot.
fn value(plan: &Plan, slot: &mut Slot, cursor: &mut Cursor<'_>) -> Result<()> {
    match plan {
        Plan::Nullable { null, some } => {
            let branch = cursor.long()?;
            return match branch {
                _ if branch == *null => null_of(slot, cursor),
                0 | 1 => value(some, slot, cursor),
                _ => Err(Fault::new(format!("branch {branch} of a union of 2"))),
            };
        }
        Plan::Null => return null_of(slot, cursor),
        Plan::Union(plans) => {
            let branch = cursor.branch(plans.len())?;
            return value(&plans[branch], slot, cursor);
        }
        Plan::Refused(why) => return Err(Fault::new(why.as_ref())),
        _ => {}
    }
    match (plan, &mut slot.values) {
        (Plan::Long(of), Values::Long(values)) => values.push(long(*of, cursor)?),
        (Plan::Text, Values::Text(strings)) => strings.push(text(cursor.sized()?)?.as_bytes()),
        (Plan::Double, Values::Double(values)) => values.push(f64::from_le_bytes(cursor.array()?)),
        (Plan::Int(of), Values::Int(values)) => values.push(int(*of, cursor)?),
        (Plan::Boolean, Values::Boolean(values)) => values.push(match cursor.array()? {
            [0] => false,
            [1] => true,
            [other] => return Err(Fault::new(format!("{other} is no boolean, which is 0 or 1"))),
        }),
        (Plan::Float, Values::Float(values)) => values.push(f32::from_le_bytes(cursor.array()?)),
        (Plan::FloatAsDouble, Values::Double(values)) => values.push(f32::from_le_bytes(cursor.array()?).into()),
        (Plan::IntegerAsFloat, Values::Float(values)) => values.push(cursor.long()? as f32),
        (Plan::IntegerAsDouble, Values::Double(values)) => values.push(cursor.long()? as f64),
        (Plan::Binary, Values::Binary(strings)) => strings.push(cursor.sized()?),
        (Plan::Fixed { size }, Values::Binary(strings)) => strings.push(cursor.take(*size)?),
        (Plan::Decimal { size, precision }, Values::Decimal(values)) => {
            let digits = match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.sized()?,
            };
            values.push(decimal(digits, *precision)?);
        }
        (Plan::Uuid, Values::Text(strings)) => strings.push(&uuid(cursor.array()?)),
        (Plan::Interval, Values::Interval(values)) => values.push(interval(cursor.array()?)?),
        (Plan::Enum(numbers), Values::Enum { numbers: values, .. }) => {
            let written = cursor.long()?;
            let number = usize::try_from(written).ok().and_then(|place| numbers.get(place));
            values.push(match number {
                Some(Some(number)) => *number,
                Some(None) => return Err(Fault::new(format!("symbol {written} of the writer's enum is none of the reader's"))),
                None => return Err(Fault::new(format!("symbol {written} of an enum of {}", numbers.len()))),
            });
        }
        (Plan::List(item), Values::List(lists)) => {
            while let Some((count, behind)) = cursor.block()? {
                cursor.pay(count, lists.items.width)?;
                for _ in 0..count {
                    value(item, &mut lists.items, cursor)?;
                }
                cursor.end_of_block(behind)?;
            }
            lists.end();
        }
        (Plan::Map(of), Values::Map(maps)) => {
            while let Some((count, behind)) = cursor.block()? {
                cursor.pay(count, maps.values.width + 4)?;
                for _ in 0..count {
                    let key = text(cursor.sized()?)?;
                    maps.keys.push(key.as_bytes());
                    value(of, &mut maps.values, cursor).map_err(|fault| fault.within(key))?;
                }
                cursor.end_of_block(behind)?;
            }
            distinct(|| maps.open_keys())?;
            maps.end();
        }
        (Plan::Record(plan), Values::Struct(structs)) => {
            fields(plan, &mut structs.members, cursor)?;
            structs.end();
        }
        (Plan::Branch { member, plan }, Values::Struct(structs)) => {
            structs.nulls_but(*member);
            value(plan, &mut structs.members[*member], cursor)?;
            structs.end();
        }
        (plan, values) => unreachable!("{plan:?} was made for another column than {values:?}"),
    }
    slot.some();
    Ok(())
}

fn null_of(slot: &mut Slot, cursor: &mut Cursor<'_>) -> Result<()> {
    if let Values::Struct(_) = slot.values {
        cursor.pay(1, slot.width)?;
    }
    slot.null();
    Ok(())
}

#[inline]
fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| Fault::new(format!("not valid UTF-8 at byte {} of its text", error.valid_up_to() + 1)))
}

#[inline(always)]
fn long(of: LongOf, cursor: &mut Cursor<'_>) -> Result<i64> {
    let value = cursor.long()?;
    let range = match of {
        LongOf::Number => return Ok(value),
        LongOf::TimeMicros => 0..=DAY_MICROS,
        LongOf::Timestamp(unit) => time::timestamp_range(unit),
    };
    match range.contains(&value) {
        true => Ok(value),
        false if of == LongOf::TimeMicros => Err(Fault::new(format!("{value} µs is no time of a day"))),
        false => Err(Fault::new(format!("{value} is no timestamp of its unit in the years 1 to 9999"))),
    }
}

#[inline]
fn int(of: IntOf, cursor: &mut Cursor<'_>) -> Result<i32> {
    let value = cursor.int()?;
    let range = match of {
        IntOf::Number => return Ok(value),
        IntOf::Date => time::date_range(),
        IntOf::TimeMillis => 0..=DAY_MILLIS,
    };
    match range.contains(&value) {
        true => Ok(value),
        false if of == IntOf::Date => Err(Fault::new(format!("{value} is no day in the years 1 to 9999"))),
        false => Err(Fault::new(format!("{value} ms is no time of a day"))),
    }
}

/// Reads a number of two's complement, the most significant byte first.
fn decimal(bytes: &[u8], precision: u8) -> Result<i128> {
    let Some(first) = bytes.first() else { return Err(Fault::new("a decimal of no bytes")) };
    let sign = if *first >= 0x80 { 0xff } else { 0 };
    let too_long = || Fault::new(format!("a decimal of more than {precision} digits"));
    let (front, digits) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut whole = [sign; 16];
    whole[16 - digits.len()..].copy_from_slice(digits);
    let value = i128::from_be_bytes(whole);
    if front.iter().any(|byte| *byte != sign) || (value < 0) != (sign == 0xff) || value.unsigned_abs() >= 10u128.pow(precision.into()) {
        return Err(too_long());
    }
    Ok(value)
}

/// Returns the text of a uuid.
fn uuid(bytes: [u8; 16]) -> [u8; 36] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| ![8, 13, 18, 23].contains(place));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    places.zip(digits).for_each(|(place, digit)| text[place] = DIGITS[usize::from(digit)]);
    text
}

/// Reads months, days and milliseconds, the least significant byte first.
fn interval(bytes: [u8; 12]) -> Result<IntervalMonthDayNano> {
    let part = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let days = |count: u32| i32::try_from(count).map_err(|_| Fault::new(format!("a duration of {count} months or days")));
    Ok(IntervalMonthDayNano::new(days(part(0))?, days(part(4))?, i64::from(part(8)) * 1_000_000))
}

/// Refuses a key that occurs twice: a map in SQL has each once.
fn distinct<'k, I: Iterator<Item = &'k [u8]>>(keys: impl Fn() -> I) -> Result<()> {
    let twice = |key: &[u8]| Fault::new(format!("the key `{}` twice in a map", String::from_utf8_lossy(key).escape_debug()));
    if keys().nth(FEW_KEYS).is_none() {
        return match keys().enumerate().find(|(place, key)| keys().take(*place).any(|before| before == *key)) {
            Some((_, key)) => Err(twice(key)),
            None => Ok(()),
        };
    }
    let mut seen = HashSet::new();
    match keys().find(|key| !seen.insert(*key)) {
        Some(key) => Err(twice(key)),
        None => Ok(()),
    }
}
