//! Cursor: reads one JSON record from front to back, the usual forms of values by itself, the unusual by `serde_json`.
//!
//! Owns: the position in the record; what whitespace, a plain string and a number look like.
//! Does not own: what a value means to a column. Everything here answers `None` for "not in a usual form", never "bad": who asks
//! falls back to [`Cursor::value`] or to the careful reading of the whole record, and only that one refuses.

use serde::Deserialize;
use serde_json::value::RawValue;

/// More decimal digits than a `u64` surely holds.
const DIGITS_EXACT_MAX: usize = 19;

/// A position in the text of a record.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// A JSON number, taken apart while it was read: `± mantissa × 10^exponent`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    /// As it stands in the record.
    pub(super) text: &'a str,
    /// Whether it begins with `-`.
    pub(super) negative: bool,
    /// All its digits as one integer; `None` if a `u64` may not hold them.
    pub(super) mantissa: Option<u64>,
    /// The power of ten, from the fraction and the exponent part.
    pub(super) exponent: i32,
    /// Whether it is written without fraction and exponent.
    pub(super) is_integer: bool,
}

impl<'a> Cursor<'a> {
    /// Stands before the first byte of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next byte without passing it.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes whitespace, as JSON defines it.
    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Passes `byte` if it is next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Passes `token` if it is next.
    #[inline]
    pub(super) fn eat_text(&mut self, token: &str) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        rest.starts_with(token.as_bytes()).then(|| self.at += token.len())
    }

    /// Returns whether nothing but whitespace is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_whitespace();
        self.at == self.text.len()
    }

    /// Reads a string without escapes, and returns what is between its quotes.
    #[inline]
    pub(super) fn plain_string(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let start = self.at;
        let length = plain_length(&self.text.as_bytes()[start..])?;
        let end = start + length;
        if self.text.as_bytes()[end] != b'"' {
            self.at = start - 1;
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// Reads a number, and takes it apart.
    #[inline]
    pub(super) fn number(&mut self) -> Option<Number<'a>> {
        let start = self.at;
        let negative = self.eat(b'-').is_some();
        let mut mantissa = 0;
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits(&mut mantissa);
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        let mut fraction = 0;
        if self.eat(b'.').is_some() {
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return None;
            }
        }
        let mut exponent = -i32::try_from(fraction).ok()?;
        let mut is_integer = fraction == 0;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            exponent += self.exponent()?;
        }
        let mantissa = (whole + fraction <= DIGITS_EXACT_MAX).then_some(mantissa);
        Some(Number { text: self.text.get(start..self.at)?, negative, mantissa, exponent, is_integer })
    }

    /// Reads any JSON value, strictly, and returns its text. Not limited in depth: the caller has looked at the whole record.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.skip_whitespace();
        let mut json = serde_json::Deserializer::from_str(self.text.get(self.at..)?);
        let value = <&RawValue>::deserialize(&mut json).ok()?.get();
        self.at += value.len();
        Some(value)
    }

    /// Passes any JSON value.
    pub(super) fn skip_value(&mut self) -> Option<()> {
        let start = self.at;
        let usual = match self.peek()? {
            b'"' => self.plain_string().is_some(),
            b'-' | b'0'..=b'9' => self.number().is_some(),
            _ => false,
        };
        if !usual {
            self.at = start;
            self.value()?;
        }
        Some(())
    }

    /// Passes digits, appends them to `mantissa` (which wraps around) and returns how many they are.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
        self.at - start
    }

    /// Reads `e±digits`, of an exponent that is not absurd.
    fn exponent(&mut self) -> Option<i32> {
        self.at += 1;
        let negative = self.eat(b'-').is_some();
        if !negative {
            let _ = self.eat(b'+');
        }
        let mut value = 0;
        let count = self.digits(&mut value);
        let value = i32::try_from(value).ok().filter(|value| (1..=8).contains(&count) && *value < 100_000)?;
        Some(if negative { -value } else { value })
    }
}

/// Returns the index of the first byte that ends a plain run in a string: a quote, a backslash or a control character.
///
/// Eight bytes at a time: `x - 0x01` borrows out of a byte's high bit only where the byte was zero, and a borrow only disturbs bytes
/// *above*, so the lowest hit is true ("Bit Twiddling Hacks", determine if a word has a zero byte).
#[inline]
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let hits =
            (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | (word.wrapping_sub(ONES * 0x20) & !word);
        let hits = hits & HIGH;
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let tail = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    Some(at + tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_run_ends_at_the_first_quote_backslash_or_control_wherever_it_stands() {
        for end in ['"', '\\', '\u{1f}', '\n', '\0'] {
            for length in 0..40 {
                let text = format!("{}{end}\"\\\"é\u{7f}", "é!~#[]x".chars().cycle().take(length).collect::<String>());
                assert_eq!(plain_length(text.as_bytes()), text.find(end), "{text:?}");
            }
        }
        assert_eq!(plain_length("no end here, éé".as_bytes()), None);
    }

    #[test]
    fn a_number_is_read_exactly_where_serde_json_reads_one() {
        let texts = [
            "0",
            "-0",
            "7",
            "-7",
            "10",
            "01",
            "-01",
            "00",
            "1.",
            ".5",
            "1.5",
            "0.50",
            "-",
            "+1",
            "1e",
            "1e+",
            "1e5",
            "1E-5",
            "1e+05",
            "1.5e3",
            "18446744073709551615",
            "99999999999999999999999",
            "1e99",
            "0x10",
            "NaN",
            "1_0",
            "--1",
            "1.5.5",
        ];
        for text in texts {
            let mut cursor = Cursor::new(text);
            let ours = cursor.number().is_some() && cursor.is_at_end();
            assert_eq!(ours, serde_json::from_str::<&RawValue>(text).is_ok() && !text.starts_with('N'), "{text}");
        }
    }

    #[test]
    fn a_number_is_taken_apart() {
        let part = |text| Cursor::new(text).number().map(|n| (n.negative, n.mantissa, n.exponent, n.is_integer));
        assert_eq!(part("-12.50e3"), Some((true, Some(1250), 1, false)));
        assert_eq!(part("42"), Some((false, Some(42), 0, true)));
        assert_eq!(part("9999999999999999999"), Some((false, Some(9_999_999_999_999_999_999), 0, true)));
        assert_eq!(part("18446744073709551615"), Some((false, None, 0, true)));
    }

    #[test]
    fn an_unusual_value_is_passed_as_a_whole() {
        for value in [r#""a\"b""#, r#"{"a":[1,{"b":"]"}]}"#, "[]", "true", "null", "1e999", "12345678901234567890123"] {
            let text = format!("{value} ,");
            let mut cursor = Cursor::new(&text);
            assert_eq!(cursor.skip_value(), Some(()), "{value}");
            cursor.skip_whitespace();
            assert_eq!(cursor.eat(b','), Some(()), "{value}");
        }
        for value in ["tru", "[1,", "{1:2}", r#""a"#, "\"a\tb\""] {
            assert_eq!(Cursor::new(value).skip_value(), None, "{value}");
        }
    }
}
