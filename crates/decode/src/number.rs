//! Numbers: from JSON text to integers, floats and decimals without losing a digit.
//!
//! Owns: what "exact" means for each numeric type.
//! Does not own: the grammar of a JSON number (see `cursor`; the careful way has it from `serde_json`).

use std::fmt;
use std::marker::PhantomData;

use arrow::datatypes::{ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type};

use super::cursor::{Cursor, Number};
use super::primitive::Scalar;

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// Most digits of an Arrow decimal of 128 bits.
const DECIMAL_DIGITS_MAX: u8 = 38;

/// Integers from `min` to `max`. `5.0` and `1e3` are integers too: the value counts, not the spelling.
#[derive(Debug)]
pub(super) struct Integer<T: ArrowPrimitiveType> {
    min: T::Native,
    max: T::Native,
}

impl<T: ArrowPrimitiveType> Integer<T> {
    /// Takes what lies between `min` and `max`, both included.
    pub(super) fn between(min: T::Native, max: T::Native) -> Self {
        Self { min, max }
    }

    fn in_range(&self, value: T::Native) -> Option<T::Native> {
        (self.min <= value && value <= self.max).then_some(value)
    }
}

impl<T> Scalar for Integer<T>
where
    T: ArrowPrimitiveType + fmt::Debug,
    T::Native: TryFrom<i64> + TryFrom<i128>,
{
    type Arrow = T;

    #[inline]
    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<T::Native> {
        self.in_range(T::Native::try_from(cursor.integer()?).ok()?)
    }

    fn careful(&self, json: &str) -> Option<T::Native> {
        let value = decimal(json, DECIMAL_DIGITS_MAX, 0)?;
        self.in_range(T::Native::try_from(value).ok()?)
    }
}

/// Floats: the nearest to the text, finite.
///
/// Not by `serde_json`, which may miss the nearest double by one unit in the last place.
#[derive(Debug)]
pub(super) struct Float<T>(PhantomData<T>);

impl<T> Float<T> {
    /// Makes the type.
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl Scalar for Float<Float64Type> {
    type Arrow = Float64Type;

    #[inline]
    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<f64> {
        let number = cursor.number()?;
        exact_double(&number).or_else(|| number.text.parse().ok()).filter(|value: &f64| value.is_finite())
    }

    fn careful(&self, json: &str) -> Option<f64> {
        number_text(json)?.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

impl Scalar for Float<Float32Type> {
    type Arrow = Float32Type;

    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<f32> {
        // Straight from the text: by way of a double it would be rounded twice.
        cursor.number()?.text.parse().ok().filter(|value: &f32| value.is_finite())
    }

    fn careful(&self, json: &str) -> Option<f32> {
        number_text(json)?.parse().ok().filter(|value: &f32| value.is_finite())
    }
}

/// Decimals from numbers and from text; refused if a digit would be lost.
#[derive(Debug)]
pub(super) struct Decimal {
    /// All digits.
    pub(super) precision: u8,
    /// Digits behind the point.
    pub(super) scale: u8,
}

impl Scalar for Decimal {
    type Arrow = Decimal128Type;

    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<i128> {
        decimal(cursor.number()?.text, self.precision, self.scale)
    }

    fn careful(&self, json: &str) -> Option<i128> {
        if json.starts_with('"') {
            let text: String = serde_json::from_str(json).ok()?;
            return decimal(&text, self.precision, self.scale);
        }
        decimal(json, self.precision, self.scale)
    }
}

/// Returns the double nearest to a number, if one exact operation on two exact operands finds it (W. D. Clinger, "How to read floating
/// point numbers accurately", 1990).
#[inline]
fn exact_double(number: &Number<'_>) -> Option<f64> {
    let mantissa = number.mantissa.filter(|mantissa| *mantissa < 1 << 53)? as f64;
    let power = *EXACT_POWERS.get(usize::try_from(number.exponent.unsigned_abs()).ok()?)?;
    let size = if number.exponent < 0 { mantissa / power } else { mantissa * power };
    Some(if number.negative { -size } else { size })
}

/// Returns a JSON value's text if it is a number.
fn number_text(json: &str) -> Option<&str> {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(json)
}

/// Reads `[+-]digits[.digits][e[+-]digits]` as an integer of units of `10^-scale`; `None` if it is not that, has more than `precision`
/// digits, or digits behind the last unit.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (size, exponent) = match text.split_once(['e', 'E']) {
        Some((size, exponent)) => (size, exponent_of(exponent)?),
        None => (text, 0),
    };
    let (negative, size) = match size.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, size.strip_prefix('+').unwrap_or(size)),
    };
    let (whole, fraction) = match size.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (size, ""),
    };
    let all = whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !all.clone().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let leading = all.clone().take_while(|byte| *byte == b'0').count();
    let trailing = all.clone().rev().take_while(|byte| *byte == b'0').count();
    let count = whole.len() + fraction.len();
    if leading == count {
        return Some(0);
    }
    let significant = i64::try_from(count - leading - trailing).ok()?;
    let shift = exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(trailing).ok()? + i64::from(scale);
    // A negative shift would push digits behind the last unit.
    let shift = u32::try_from(shift).ok()?;
    if significant + i64::from(shift) > i64::from(precision) {
        return None;
    }
    let digits = all.skip(leading).take(usize::try_from(significant).ok()?);
    let digits = digits.fold(0, |value: i128, digit| value * 10 + i128::from(digit - b'0'));
    let value = digits * 10i128.pow(shift);
    Some(if negative { -value } else { value })
}

/// Reads an exponent; one that is out of all reason is cut to one that still is.
fn exponent_of(text: &str) -> Option<i64> {
    const ABSURD: i64 = 1 << 40;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(ABSURD).min(ABSURD);
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_keeps_every_digit_or_is_refused() {
        assert_eq!(decimal("12.34", 4, 2), Some(1234));
        assert_eq!(decimal("-12.3400", 4, 2), Some(-1234));
        assert_eq!(decimal("+007", 3, 2), Some(700));
        assert_eq!(decimal("+017", 3, 2), None);
        assert_eq!(decimal("+007", 3, 0), Some(7));
        assert_eq!(decimal("1.2e1", 4, 2), Some(1200));
        assert_eq!(decimal("0.001e3", 4, 2), Some(100));
        assert_eq!(decimal("12.345", 5, 2), None);
        assert_eq!(decimal("123.4", 4, 2), None);
        assert_eq!(decimal("0e999999999999999999999", 4, 2), Some(0));
        assert_eq!(decimal("1e999999999999999999999", 4, 2), None);
        assert_eq!(decimal("1e-999999999999999999999", 4, 2), None);
        let largest = "9".repeat(38);
        assert_eq!(decimal(&largest, 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(&format!("{largest}0"), 38, 0), None);
    }

    #[test]
    fn what_is_no_number_is_no_decimal() {
        for text in
            ["", "-", "+", ".", ".5", "5.", "1e", "1e+", "e5", "1.2.3", "1 ", " 1", "1,5", "0x1", "NaN", "inf", "--1", "+-1", "1e1.5"]
        {
            assert_eq!(decimal(text, 38, 4), None, "{text:?}");
        }
    }

    #[test]
    fn the_double_is_the_nearest_one() {
        let texts =
            ["12.3456", "0.1", "-0.0", "1e22", "1e23", "123456789012345678", "9007199254740993", "5e-324", "1.7976931348623157e308"];
        let floats = Float::<Float64Type>::new();
        for text in texts {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(floats.usual(&mut Cursor::new(text, 0)).map(f64::to_bits), Some(expected.to_bits()), "{text}");
            assert_eq!(floats.careful(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
    }

    #[test]
    fn a_double_that_is_written_out_reads_back_as_itself() {
        let floats = Float::<Float64Type>::new();
        for n in 0..50_000u64 {
            let bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // Of any size, and of the size of an amount.
            for value in [f64::from_bits(bits), (bits >> 11) as f64 / 1e13] {
                for text in [format!("{value:?}"), format!("{value:e}"), format!("{value:.20}")].iter().filter(|_| value.is_finite()) {
                    let read = floats.usual(&mut Cursor::new(text, 0));
                    assert_eq!(read, text.parse().ok(), "{text}");
                }
            }
        }
    }
}
