//! Cursor: reads JSON records from front to back, the usual forms of values by itself, the unusual by `serde_json`.
//!
//! Owns: the position in the text; what whitespace, a plain string and a number look like; that nothing goes past the end of a line.
//! Does not own: what a value means to a column. Everything here answers `None` for "not in a usual form", never "bad": who asks
//! falls back to [`Cursor::value`] or to the careful reading of the whole record, and only that one refuses.
//!
//! The text goes on behind the record, with the lines that follow it: so eight bytes can be looked at wherever the record has one.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::depth::{self, DEPTH_MAX};

/// Decimal digits that a `u64` surely holds.
const DIGITS_EXACT_MAX: usize = 19;

/// A position in a text of lines.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Objects that it stands in.
    depth: usize,
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
}

impl<'a> Cursor<'a> {
    /// Stands before the byte `at` of `text`, which begins a line or a value.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at, depth: 0 }
    }

    /// Stands where it stood before.
    pub(super) fn go_back(&mut self, at: usize) {
        self.at = at;
    }

    /// Stands before the first byte of `value`, which was read here.
    pub(super) fn within<'v>(&self, value: &'v str) -> Cursor<'v> {
        Cursor { text: value, at: 0, depth: self.depth }
    }

    /// Records that an object has begun; `None` if that is one too many.
    #[inline]
    pub(super) fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    /// Records that an object has ended.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Returns where it stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the next byte without passing it.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes whitespace, as JSON defines it, within the line.
    #[inline(always)]
    pub(super) fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes `byte` if it is next.
    #[inline(always)]
    pub(super) fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Passes `token` if it is next.
    #[inline]
    pub(super) fn eat_text(&mut self, token: &str) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        rest.starts_with(token.as_bytes()).then(|| self.at += token.len())
    }

    /// Passes `token` if it is next.
    #[inline(always)]
    pub(super) fn eat_token(&mut self, token: &Token) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        token.begins(rest).then(|| self.at += token.text.len())
    }

    /// Returns whether nothing but whitespace is left of the line.
    #[inline]
    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_whitespace();
        matches!(self.peek(), None | Some(b'\n'))
    }

    /// Reads a string without escapes, and returns what is between its quotes.
    #[inline(always)]
    pub(super) fn plain_string(&mut self) -> Option<&'a str> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let mut end = start;
        loop {
            let plain = plain_bytes(self.word(end));
            end += plain;
            if plain < 8 {
                break;
            }
        }
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// Reads an integer written as one, of so few digits that they surely fit. What follows it is the caller's to look at.
    #[inline(always)]
    pub(super) fn integer(&mut self) -> Option<i64> {
        let negative = self.eat(b'-').is_some();
        let (value, digits) = self.whole_part()?;
        // 18 digits fit; a point or an exponent makes it a number of another kind, to be read as a whole.
        if digits > 18 || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        let value = value as i64;
        Some(if negative { -value } else { value })
    }

    /// Reads a number, and takes it apart.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<Number<'a>> {
        let start = self.at;
        let negative = self.eat(b'-').is_some();
        let (mut mantissa, whole) = self.whole_part()?;
        let mut fraction = 0;
        if self.eat(b'.').is_some() {
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return None;
            }
        }
        let mut exponent = -i32::try_from(fraction).ok()?;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            exponent += self.exponent()?;
        }
        let mantissa = (whole + fraction <= DIGITS_EXACT_MAX).then_some(mantissa);
        Some(Number { text: self.text.get(start..self.at)?, negative, mantissa, exponent })
    }

    /// Reads any JSON value that is not too deep, strictly, and returns its text.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.skip_whitespace();
        let line = self.text.get(self.at..)?;
        // A value may hold line ends between its parts: it must end before the line does.
        let line = &line[..memchr::memchr(b'\n', line.as_bytes()).unwrap_or(line.len())];
        let mut json = serde_json::Deserializer::from_str(line);
        let value = <&RawValue>::deserialize(&mut json).ok()?.get();
        self.at += value.len();
        (!depth::exceeds(value, DEPTH_MAX - self.depth)).then_some(value)
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
            self.go_back(start);
            self.value()?;
        }
        Some(())
    }

    /// Reads what stands before a number's point: at least one digit, and no zero in front. Returns its value (which wraps around) and how many
    /// digits it has.
    #[inline(always)]
    fn whole_part(&mut self) -> Option<(u64, usize)> {
        let leading_zero = self.peek() == Some(b'0');
        let mut value = 0;
        let digits = self.digits(&mut value);
        (digits == 1 || (digits > 1 && !leading_zero)).then_some((value, digits))
    }

    /// Passes digits, appends them to `mantissa` (which wraps around) and returns how many they are.
    #[inline(always)]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        // Written out for the lengths that occur: a loop costs as much again.
        let first = self.digits_of_a_word(mantissa);
        if first < 8 {
            return first;
        }
        let second = self.digits_of_a_word(mantissa);
        if second < 8 {
            return first + second;
        }
        first + second + self.more_digits(mantissa)
    }

    #[cold]
    fn more_digits(&mut self, mantissa: &mut u64) -> usize {
        let mut digits = 0;
        loop {
            let more = self.digits_of_a_word(mantissa);
            digits += more;
            if more < 8 {
                return digits;
            }
        }
    }

    /// The same for at most eight digits.
    #[inline(always)]
    fn digits_of_a_word(&mut self, mantissa: &mut u64) -> usize {
        let word = self.word(self.at);
        let count = leading_digits(word);
        // Zero bytes move in before the digits, and count as zeros. A word cannot be shifted out whole: no digit, no word.
        let digits = if count == 0 { 0 } else { word << (64 - 8 * count) };
        let value = eight_digits(digits);
        *mantissa = mantissa.wrapping_mul(POWERS_OF_TEN[count]).wrapping_add(value);
        self.at += count;
        count
    }

    /// Returns eight bytes of the text, the first in the lowest bits; behind its end there are zeros.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        match self.text.as_bytes().get(at..).and_then(|rest| rest.first_chunk()) {
            Some(word) => u64::from_le_bytes(*word),
            None => self.last_word(at),
        }
    }

    #[cold]
    fn last_word(&self, at: usize) -> u64 {
        let rest = self.text.as_bytes().get(at..).unwrap_or_default();
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
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

/// A short text that is looked for again and again, sixteen bytes at once.
#[derive(Debug)]
pub(super) struct Token {
    text: Box<str>,
    /// The first sixteen bytes, and which of their bits count.
    head: u128,
    mask: u128,
}

impl Token {
    /// Prepares a text.
    pub(super) fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        let (mut head, mut mask) = ([0; 16], [0; 16]);
        let length = text.len().min(16);
        head[..length].copy_from_slice(&text.as_bytes()[..length]);
        mask[..length].fill(0xff);
        Self { text, head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask) }
    }

    /// Returns whether `bytes` begin with it.
    #[inline(always)]
    fn begins(&self, bytes: &[u8]) -> bool {
        match bytes.split_first_chunk() {
            Some((head, rest)) => {
                u128::from_le_bytes(*head) & self.mask == self.head
                    && (self.text.len() <= 16 || rest.starts_with(&self.text.as_bytes()[16..]))
            }
            None => bytes.starts_with(self.text.as_bytes()),
        }
    }
}

/// Every byte 1.
const ONES: u64 = u64::MAX / 255;
/// The high bit of every byte.
const HIGH: u64 = ONES << 7;

/// Powers of ten up to that of eight digits.
const POWERS_OF_TEN: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Counts the decimal digits that a word begins with. A carry out of a byte that is none only disturbs bytes above it.
#[inline]
fn leading_digits(word: u64) -> usize {
    let values = word ^ (ONES * b'0' as u64);
    let others = (values.wrapping_add(ONES * (0x80 - 10)) | values) & HIGH;
    others.trailing_zeros() as usize / 8
}

/// Returns the number that eight digits are, by adding up pairs, fours and halves side by side (D. Lemire, "Quickly parsing eight digits",
/// 2018). A zero byte is as good as `'0'`.
#[inline]
fn eight_digits(word: u64) -> u64 {
    let digits = word & (ONES * 0x0f);
    let pairs = (digits.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * (1 << 32) + 1) >> 32
}

/// Counts the bytes before the first one that ends a plain run in a string: a quote, a backslash or a control character.
///
/// `x - 0x01` borrows out of a byte's high bit only where the byte was zero, and a borrow only disturbs bytes *above*, so the lowest hit is
/// true ("Bit Twiddling Hacks", determine if a word has a zero byte).
#[inline]
fn plain_bytes(word: u64) -> usize {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let hits = (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | (word.wrapping_sub(ONES * 0x20) & !word);
    (hits & HIGH).trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_string_ends_at_its_quote_wherever_it_stands_and_is_none_with_anything_odd_in_it() {
        for length in 0..40 {
            let plain = "é!~#[]x\u{7f}".chars().cycle().take(length).collect::<String>();
            for behind in ["", ",", ",\"b\":\"\\\"\"}\n{\"a\":1}"] {
                let text = format!("\"{plain}\"{behind}");
                assert_eq!(Cursor::new(&text, 0).plain_string(), Some(&*plain), "{text:?}");
                for odd in ["\\\"", "\u{1f}", "\n", "\0", ""] {
                    let text = format!("\"{plain}{odd}{}", if odd.is_empty() { "" } else { behind });
                    assert_eq!(Cursor::new(&text, 0).plain_string(), None, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn digits_are_counted_and_added_up_wherever_they_end() {
        for digits in 0..=18 {
            let number: u64 = "9182736450918273645"[..digits].parse().unwrap_or(0);
            for behind in ["", ",", "/:", ".5", "\u{7f}", "é9999999", "}\n{\"a\":12345678901234567890}"] {
                let text = format!("{}{behind}", &"9182736450918273645"[..digits]);
                let (mut cursor, mut mantissa) = (Cursor::new(&text, 0), 0);
                assert_eq!((cursor.digits(&mut mantissa), mantissa, cursor.at()), (digits, number, digits), "{text:?}");
            }
        }
    }

    #[test]
    fn a_token_is_found_whole_or_not_at_all() {
        for length in 1..40 {
            let text = "abcdefghij".chars().cycle().take(length).collect::<String>();
            let token = Token::new(text.as_str());
            for behind in ["", "x", "0123456789012345"] {
                assert!(token.begins(format!("{text}{behind}").as_bytes()), "{text}");
                for other in 0..length {
                    let mut other_text = text.clone().into_bytes();
                    other_text[other] ^= 1;
                    assert!(!token.begins(&[&other_text, behind.as_bytes()].concat()), "{text}");
                }
                assert!(!token.begins(&text.as_bytes()[1..]), "{text}");
            }
        }
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
            let mut cursor = Cursor::new(text, 0);
            let ours = cursor.number().is_some() && cursor.is_at_end();
            assert_eq!(ours, serde_json::from_str::<&RawValue>(text).is_ok() && !text.starts_with('N'), "{text}");
        }
    }

    #[test]
    fn a_number_is_taken_apart() {
        let part = |text| Cursor::new(text, 0).number().map(|n| (n.negative, n.mantissa, n.exponent));
        assert_eq!(part("-12.50e3"), Some((true, Some(1250), 1)));
        assert_eq!(part("42"), Some((false, Some(42), 0)));
        assert_eq!(part("9999999999999999999"), Some((false, Some(9_999_999_999_999_999_999), 0)));
        assert_eq!(part("18446744073709551615"), Some((false, None, 0)));
    }

    #[test]
    fn an_integer_is_read_only_where_it_is_written_as_one() {
        let read = |text| Cursor::new(text, 0).integer();
        assert_eq!(read("-123456789012345678,"), Some(-123_456_789_012_345_678));
        assert_eq!(read("0}"), Some(0));
        for text in ["1.0", "1e3", "1E3", "01", "-", "", "x", "1234567890123456789"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_unusual_value_is_passed_as_a_whole() {
        for value in [r#""a\"b""#, r#"{"a":[1,{"b":"]"}]}"#, "[]", "true", "null", "1e999", "12345678901234567890123"] {
            let text = format!("{value} ,");
            let mut cursor = Cursor::new(&text, 0);
            assert_eq!(cursor.skip_value(), Some(()), "{value}");
            cursor.skip_whitespace();
            assert_eq!(cursor.eat(b','), Some(()), "{value}");
        }
        for value in ["tru", "[1,", "{1:2}", r#""a"#, "\"a\tb\""] {
            assert_eq!(Cursor::new(value, 0).skip_value(), None, "{value}");
        }
    }
}
