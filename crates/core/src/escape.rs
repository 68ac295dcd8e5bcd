//! Escape: text from outside on its way to a person.
//!
//! Owns: which characters are written as an escape, so that text of a record, a request, a file's name or a server's answer moves no cursor, sets no
//! title, turns no line, and hides nothing. All that Pintail shows on a terminal, in a text log or in a table goes through here.
//! Does not own: cutting (who takes the text knows how much of it is worth showing), the layout.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Returns whether a character could do more than take its place: control characters, and those that turn the direction of text, join or hide.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || turns(c)
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether a character turns the direction of the text behind it.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns text on one line, in which every character only takes its place.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push(&mut safe, c);
    }
    Cow::Owned(safe)
}

/// Appends a character, escaped if need be.
pub fn push(to: &mut String, c: char) {
    if is_unsafe(c) { to.extend(c.escape_default()) } else { to.push(c) }
}

/// As [`line()`], cut to about `bytes_max` bytes before it is escaped.
pub fn beginning(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return line(text).into_owned();
    }
    line(&text[..text.floor_char_boundary(bytes_max)]).into_owned() + "…"
}

/// Escapes what is formatted into it.
#[derive(Debug)]
pub struct Line<W>(pub W);

impl<W: fmt::Write> fmt::Write for Line<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

/// What kind of text is written, and so what in it is part of its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines for a person.
    Lines,
    /// CSV: line ends and tabs may be part of a value. Only control characters and those that turn text are escaped, so that all others are exact.
    Csv,
    /// JSON, in which an escape means the same value.
    Json,
}

impl Form {
    fn passes(self, c: char) -> bool {
        match self {
            Self::Lines => c == '\n' || !is_unsafe(c),
            Self::Csv => matches!(c, '\n' | '\r' | '\t') || !(c.is_control() || turns(c)),
            Self::Json => c == '\n' || !is_unsafe(c) || u32::from(c) > 0xffff,
        }
    }

    fn escape(self, c: char, to: &mut String) {
        match self {
            Self::Lines | Self::Csv => to.extend(c.escape_default()),
            Self::Json => *to += &format!("\\u{:04x}", u32::from(c)),
        }
    }

    /// Returns text with everything escaped that is no part of its form.
    pub fn escaped(self, text: &str) -> Cow<'_, str> {
        // Most text is plain, and is only looked at.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) || text.chars().all(|c| self.passes(c)) {
            return Cow::Borrowed(text);
        }
        let mut safe = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if self.passes(c) { safe.push(c) } else { self.escape(c, &mut safe) }
        }
        Cow::Owned(safe)
    }
}

/// Escapes what is written through it.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    form: Form,
    /// The beginning of a character whose rest is still to come.
    part: Vec<u8>,
}

impl<W: io::Write> Writer<W> {
    /// Wraps a writer.
    pub fn new(to: W, form: Form) -> Self {
        Self { to, form, part: Vec::new() }
    }

    fn write_text(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (valid, broken) = match std::str::from_utf8(bytes) {
                Ok(text) => (text, None),
                Err(error) => {
                    let valid = &bytes[..error.valid_up_to()];
                    (std::str::from_utf8(valid).expect("valid up to there"), Some(error.error_len()))
                }
            };
            self.to.write_all(self.form.escaped(valid).as_bytes())?;
            bytes = &bytes[valid.len()..];
            match broken {
                Some(Some(length)) => {
                    self.to.write_all("\u{fffd}".as_bytes())?;
                    bytes = &bytes[length..];
                }
                Some(None) => {
                    self.part = bytes.to_vec();
                    return Ok(());
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl<W: io::Write> io::Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            self.write_text(bytes)?;
        } else {
            let whole = [std::mem::take(&mut self.part).as_slice(), bytes].concat();
            self.write_text(&whole)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Returns bytes as text. What is no UTF-8 is escaped, whole, with two digits a byte.
pub fn bytes_as_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes
            .iter()
            .map(|&byte| match byte {
                b' '..=b'[' | b']'..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02X}"),
            })
            .collect::<String>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HOSTILE: &str = "a\x1b]0;title\x07\u{9b}31m\u{202e}\u{200b}\r\nb\té🦆\u{7f}";

    fn written(form: Form, pieces: &[&[u8]]) -> String {
        let mut writer = Writer::new(Vec::new(), form);
        pieces.iter().for_each(|piece| writer.write_all(piece).unwrap());
        String::from_utf8(writer.to).unwrap()
    }

    #[test]
    fn a_line_stays_one_and_shows_what_would_have_moved_the_cursor() {
        assert_eq!(line(HOSTILE), r"a\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\u{200b}\r\nb\té🦆\u{7f}");
        assert!(matches!(line("plain, 日本 🦆"), Cow::Borrowed(_)));
        assert_eq!(beginning("é\x1bé", 2), "é…");
    }

    #[test]
    fn each_form_keeps_what_is_part_of_it() {
        assert_eq!(written(Form::Lines, &[HOSTILE.as_bytes()]), "a\\u{1b}]0;title\\u{7}\\u{9b}31m\\u{202e}\\u{200b}\\r\nb\\té🦆\\u{7f}");
        let csv = written(Form::Csv, &[HOSTILE.as_bytes()]);
        assert_eq!(csv, "a\\u{1b}]0;title\\u{7}\\u{9b}31m\\u{202e}\u{200b}\r\nb\té🦆\\u{7f}");
        let json = serde_json::to_string(HOSTILE).unwrap();
        let shown = written(Form::Json, &[json.as_bytes()]);
        assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), HOSTILE);
    }

    #[test]
    fn characters_that_are_written_in_pieces_stay_whole_and_broken_ones_are_marked() {
        let pieces: Vec<&[u8]> = HOSTILE.as_bytes().chunks(1).collect();
        assert_eq!(written(Form::Lines, &pieces), written(Form::Lines, &[HOSTILE.as_bytes()]));
        assert_eq!(written(Form::Lines, &[b"a\xffb\xc3", b"(c"]), "a\u{fffd}b\u{fffd}(c");
    }
}
