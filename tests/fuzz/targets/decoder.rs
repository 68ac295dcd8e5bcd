//! Records made of pieces that a decoder may trip over, held against the rule of agreement.
//!
//! libFuzzer mutates the choice of pieces: what comes out is mostly a valid record of an odd form. The bytes themselves are mutated by the
//! target `decoder_bytes`.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pintail_fuzz::decoding::{self, KEYS};

#[derive(Debug, Arbitrary)]
struct Input {
    schema: u8,
    cuts: u32,
    lines: Vec<Line>,
}

#[derive(Debug, Arbitrary)]
enum Line {
    Record(Members, Dressing),
    /// The same with a byte or two in a wrong place.
    Damaged(Members, Dressing, u16, [u8; 2]),
    Bytes(Vec<u8>),
    Value(Json),
}

#[derive(Debug)]
struct Members(Vec<(Key, Json, Dressing)>);

/// Whitespace, and a mark before it.
#[derive(Debug, Arbitrary)]
enum Dressing {
    None,
    Spaces(u8),
    Mark,
}

#[derive(Debug, Arbitrary)]
enum Key {
    Declared(u8),
    /// A declared one, with this character escaped.
    Escaped(u8, u8),
    Other(String),
    Raw(Vec<Piece>),
    /// Half of a surrogate pair.
    Half(u16),
}

#[derive(Debug)]
enum Json {
    Word(u8),
    Integer(i64),
    Float(f64),
    Number(Digits, Option<Digits>, Option<(u8, Digits)>),
    Text(Vec<Piece>),
    Time(i64, u8, u8),
    Decimal(i64, u8),
    Array(Vec<Json>),
    Object(Members),
    Deep(u8, bool, Box<Json>),
}

#[derive(Debug, Arbitrary)]
struct Digits {
    sign: u8,
    value: u64,
    zeros: u8,
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Text(String),
    Escape(u8),
    Unit(u16),
    Pair(char),
    Raw(u8),
}

/// Derived, it would go as deep as the input is long.
impl<'a> Arbitrary<'a> for Members {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let count = u.int_in_range(0..=8)?;
        (0..count).map(|_| Ok((u.arbitrary()?, u.arbitrary()?, u.arbitrary()?))).collect::<Result<_, _>>().map(Self)
    }
}

impl<'a> Arbitrary<'a> for Json {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        if u.is_empty() {
            return Ok(Self::Word(0));
        }
        Ok(match u.int_in_range(0..=10)? {
            0 => Self::Word(u.arbitrary()?),
            1 => Self::Integer(u.arbitrary()?),
            2 => Self::Float(u.arbitrary()?),
            3 => Self::Number(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?),
            4 | 5 => Self::Text(u.arbitrary()?),
            6 => Self::Time(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?),
            7 => Self::Decimal(u.arbitrary()?, u.arbitrary()?),
            8 => {
                let count = u.int_in_range(0..=4)?;
                Self::Array((0..count).map(|_| u.arbitrary()).collect::<Result<_, _>>()?)
            }
            9 => Self::Object(u.arbitrary()?),
            _ => Self::Deep(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?),
        })
    }
}

impl Line {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Record(members, dressing) => dressed(dressing, to, |to| members.write(to)),
            Self::Damaged(members, dressing, at, with) => {
                let start = to.len();
                dressed(dressing, to, |to| members.write(to));
                let at = start + usize::from(*at) % (to.len() - start);
                to.splice(at..at + usize::from(with[0] % 2), [with[1]]);
            }
            Self::Bytes(bytes) => to.extend(bytes),
            Self::Value(value) => value.write(to),
        }
    }
}

fn dressed(dressing: &Dressing, to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let spaces = |to: &mut Vec<u8>, which: u8| to.extend([" ", "\t", "\r", " \t ", ""][usize::from(which) % 5].as_bytes());
    match dressing {
        Dressing::None => write(to),
        Dressing::Spaces(which) => {
            spaces(to, *which);
            write(to);
            spaces(to, which / 5);
        }
        Dressing::Mark => {
            to.extend("\u{feff}".as_bytes());
            write(to);
            to.push(b'\r');
        }
    }
}

impl Members {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(b'{');
        for (index, (key, value, dressing)) in self.0.iter().enumerate() {
            if index > 0 {
                to.push(b',');
            }
            match dressing {
                Dressing::Mark => key.write(to),
                dressing => dressed(dressing, to, |to| key.write(to)),
            }
            to.push(b':');
            match dressing {
                Dressing::Mark => value.write(to),
                dressing => dressed(dressing, to, |to| value.write(to)),
            }
        }
        to.push(b'}');
    }
}

impl Key {
    fn write(&self, to: &mut Vec<u8>) {
        let declared = |which: &u8| KEYS[usize::from(*which) % KEYS.len()];
        match self {
            Self::Declared(which) => quoted(declared(which), to),
            Self::Escaped(which, at) => {
                to.push(b'"');
                for (index, c) in declared(which).chars().enumerate() {
                    match index == usize::from(*at) {
                        true => escaped(c, to),
                        false => to.extend(c.to_string().as_bytes()),
                    }
                }
                to.push(b'"');
            }
            Self::Other(text) => quoted(text, to),
            Self::Raw(pieces) => text(pieces, to),
            Self::Half(unit) => text(&[Piece::Unit(0xd800 | unit % 0x800)], to),
        }
    }
}

impl Json {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Word(which) => to.extend(["null", "true", "false", "{}", "[]", "\"\""][usize::from(*which) % 6].as_bytes()),
            Self::Integer(number) => to.extend(number.to_string().as_bytes()),
            Self::Float(number) => to.extend(format!("{number:?}").as_bytes()),
            Self::Number(whole, fraction, exponent) => {
                whole.write(to);
                if let Some(fraction) = fraction {
                    to.extend(format!(".{}{}", "0".repeat(fraction.zeros.into()), fraction.value).as_bytes());
                }
                if let Some((letter, digits)) = exponent {
                    to.extend([["e", "E", "e+", "E-"][usize::from(*letter) % 4]].concat().as_bytes());
                    digits.write(to);
                }
            }
            Self::Text(pieces) => text(pieces, to),
            Self::Time(at, unit, form) => time(*at, *unit, *form, to),
            Self::Decimal(digits, point) => {
                let (sign, digits) = (if *digits < 0 { "-" } else { "" }, digits.unsigned_abs().to_string());
                let (whole, fraction) = digits.split_at(usize::from(*point) % digits.len());
                to.extend(format!("\"{sign}{}.{fraction}\"", if whole.is_empty() { "0" } else { whole }).as_bytes());
            }
            Self::Array(items) => {
                to.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    item.write(to);
                }
                to.push(b']');
            }
            Self::Object(members) => members.write(to),
            Self::Deep(levels, arrays, within) => {
                let levels = usize::from(levels % 136);
                let (open, close) = if *arrays { ("[", "]") } else { ("{\"a\":", "}") };
                to.extend(open.repeat(levels).as_bytes());
                within.write(to);
                to.extend(close.repeat(levels).as_bytes());
            }
        }
    }
}

impl Digits {
    fn write(&self, to: &mut Vec<u8>) {
        let sign = ["", "-", "", "-", "", "", "+", "00"][usize::from(self.sign) % 8];
        to.extend(format!("{sign}{}{}", self.value, "0".repeat(self.zeros.into())).as_bytes());
    }
}

/// Writes a time as the declared types may take it, and as they may not.
fn time(at: i64, unit: u8, form: u8, to: &mut Vec<u8>) {
    let per_second = [1, 1_000, 1_000_000][usize::from(unit) % 3];
    let time = chrono::DateTime::from_timestamp(at.div_euclid(per_second), 0).unwrap_or_default();
    let spelling =
        ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y-%m-%dt%H:%M:60z", "%Y-%m-%dT%H:%M:%S"][usize::from(form) % 5];
    let zone = ["", "+01:00", "-23:59", ".5Z", ".1234567891+00", "+0100", "Z", "-24:00"][usize::from(form / 5) % 8];
    to.extend(format!("\"{}{zone}\"", time.format(spelling)).as_bytes());
}

fn quoted(text: &str, to: &mut Vec<u8>) {
    to.extend(serde_json::Value::from(text).to_string().as_bytes());
}

fn text(pieces: &[Piece], to: &mut Vec<u8>) {
    to.push(b'"');
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                let text = serde_json::Value::from(text.as_str()).to_string();
                to.extend(&text.as_bytes()[1..text.len() - 1]);
            }
            Piece::Escape(which) => to.extend([b'\\', b"\"\\/bfnrtux0'"[usize::from(*which) % 12]]),
            Piece::Unit(unit) => to.extend(format!("\\u{unit:04x}").as_bytes()),
            Piece::Pair(c) => escaped(*c, to),
            Piece::Raw(byte) => to.push(*byte),
        }
    }
    to.push(b'"');
}

fn escaped(c: char, to: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        to.extend(format!("\\u{unit:04X}").as_bytes());
    }
}

fuzz_target!(|input: Input| {
    let mut text = Vec::new();
    for line in &input.lines {
        line.write(&mut text);
        text.push(b'\n');
    }
    decoding::check(input.schema, input.cuts, &text);
});
