//! Folded: lines of a command on a terminal, no wider than that.
//!
//! Owns: where a line that is too wide is broken, and which are left as they are.
//! Does not own: what is said, and that it is safe to show (see [`pintail_core::escape`]); the live table (see `render`).

use std::io::{self, IsTerminal, StdoutLock, Write};

use super::layout::{broken, width};
use super::screen;

/// What a line begins with that is typed as it stands: a shell would run the half of it.
const COMMANDS: [&str; 2] = ["Next: ", "then: "];
/// Columns that the rest of a line is set in by.
const INDENT: usize = 2;
/// What a space within a command is while a line is broken: a character for private use, as wide as a space.
const HELD: char = '\u{e000}';
/// Columns below which breaking lines helps nobody.
const COLUMNS_MIN: usize = 40;

/// Breaks lines that are wider than the terminal.
#[derive(Debug)]
pub(crate) struct Folded<W: Write> {
    to: W,
    /// Of the terminal; `None` if there is none: then everything passes as it is.
    columns: Option<usize>,
    /// The line so far.
    line: Vec<u8>,
    /// Whether it goes on with a command.
    is_command: bool,
}

impl Folded<StdoutLock<'static>> {
    /// Writes to standard output.
    pub(crate) fn stdout() -> Self {
        let columns = io::stdout().is_terminal().then(screen::columns);
        Self::new(io::stdout().lock(), columns)
    }
}

impl<W: Write> Folded<W> {
    fn new(to: W, columns: Option<usize>) -> Self {
        Self { to, columns: columns.map(|columns| columns.max(COLUMNS_MIN)), line: Vec::new(), is_command: false }
    }

    /// Writes the line that there is, with its end if it has one.
    fn end_line(&mut self, columns: usize) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let text = line.strip_suffix('\n').unwrap_or(&line);
        let is_command = self.is_command || COMMANDS.iter().any(|begin| text.starts_with(begin));
        self.is_command = is_command && text.ends_with('\\');
        if is_command || width(text) <= columns {
            return self.to.write_all(line.as_bytes());
        }
        let indent = text.len() - text.trim_start_matches(' ').len() + INDENT;
        let rest = " ".repeat(indent.min(columns / 2));
        let folded = broken(&held_together(text), columns - rest.len()).join(&format!("\n{rest}")).replace(HELD, " ");
        self.to.write_all((folded + &line[text.len()..]).as_bytes())
    }
}

/// Returns text whose commands, in backticks, are words to whoever breaks it.
fn held_together(text: &str) -> String {
    let mut is_inside = false;
    let held = text.chars().map(|c| {
        is_inside ^= c == '`';
        if is_inside && c == ' ' { HELD } else { c }
    });
    held.collect()
}

impl<W: Write> Write for Folded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(columns) = self.columns else { return self.to.write(bytes) };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line(columns)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(columns) = self.columns.filter(|_| !self.line.is_empty()) {
            self.end_line(columns)?;
        }
        self.to.flush()
    }
}

impl<W: Write> Drop for Folded<W> {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(columns: Option<usize>, text: &str) -> String {
        let mut to = Vec::new();
        let mut folded = Folded::new(&mut to, columns);
        // In pieces, as `write!` writes.
        text.as_bytes().chunks(7).for_each(|piece| folded.write_all(piece).unwrap());
        drop(folded);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_line_wider_than_the_terminal_is_broken_between_words_and_set_in() {
        let words = ["wörd"; 20].join(" ");
        let text = format!("short\n  {words}\nlast");
        let lines: Vec<String> = folded(Some(60), &text).lines().map(str::to_owned).collect();
        assert!(lines.iter().all(|line| width(line) <= 60), "{lines:?}");
        assert!(lines.len() == 4 && lines[1].starts_with("  wörd") && lines[2].starts_with("    wörd"), "{lines:?}");
        assert_eq!((lines[0].as_str(), lines[3].as_str()), ("short", "last"));
        assert_eq!(lines[1..3].join(" ").split_whitespace().collect::<Vec<_>>().join(" "), words);
        assert_eq!(folded(None, &text), text);
    }

    #[test]
    fn a_command_to_type_is_left_whole() {
        let command = format!("\nNext: pintail query {} \\\n      {}\n", "--set a=b ".repeat(8), "'SELECT 1' ".repeat(9));
        assert_eq!(folded(Some(60), &command), command);
        let after = format!("{command}{}\n", "word ".repeat(20));
        assert!(folded(Some(60), &after).lines().last().unwrap().starts_with("  word"));
        let named = format!("{}`pintail expire --take-back --set a=b` takes it back, {}\n", "word ".repeat(6), "word ".repeat(10));
        assert!(folded(Some(60), &named).contains("`pintail expire --take-back --set a=b`"), "{}", folded(Some(60), &named));
    }
}
