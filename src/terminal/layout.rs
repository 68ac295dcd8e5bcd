//! Cells, columns and lines in terminal columns.
//!
//! Owns: widths, cutting, the format of numbers.
//! Does not own: what is shown (see `render`), what is escaped (see [`pintail_core::escape`]).

use std::fmt::Write as _;
use std::time::Duration;

use pintail_core::escape;
use pintail_core::quantity::thousands;
use unicode_width::UnicodeWidthChar;
/// Columns of a fill bar.
const BAR: usize = 8;

/// Returns the terminal columns that text takes, character by character: nothing here joins characters to one.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Makes text from an event safe to print: unsafe characters escaped, cut to `max` columns with `…`. Looks at no more of it than it prints.
pub(super) fn cell(text: &str, max: usize) -> String {
    let mut safe = String::new();
    for c in text.chars().take(max + 1) {
        escape::push(&mut safe, c);
    }
    clip(&safe, max)
}

/// Cuts text to `max` columns, the last of them `…` if something is missing.
pub(super) fn clip(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 0;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken + 1 > max {
            break;
        }
        cut.push(c);
    }
    if max > 0 {
        cut.push('…');
    }
    cut
}

/// Fills text with spaces to `to` columns.
pub(super) fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// A column of the table.
pub(super) struct Column {
    header: String,
    cells: Vec<String>,
}

impl Column {
    /// Makes a column of text.
    pub(super) fn texts(header: &str, cells: Vec<String>) -> Self {
        Self { header: header.to_owned(), cells }
    }

    /// Makes a column of numbers, one below the other by their last digit.
    pub(super) fn numbers(header: &str, mut cells: Vec<String>) -> Self {
        let widest = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
        for cell in &mut cells {
            cell.insert_str(0, &" ".repeat(widest - width(cell)));
        }
        Self::texts(header, cells)
    }

    /// Returns the columns that header and cells need.
    pub(super) fn width(&self) -> usize {
        self.cells.iter().chain([&self.header]).map(|cell| width(cell)).max().unwrap_or(0)
    }

    /// Cuts header and cells.
    pub(super) fn narrow(&mut self, to: usize) {
        for cell in self.cells.iter_mut().chain([&mut self.header]) {
            *cell = clip(cell, to);
        }
    }

    /// Returns a cell; the header for `None`.
    pub(super) fn cell(&self, row: Option<usize>) -> &str {
        row.map_or(&self.header, |row| &self.cells[row])
    }
}

/// Writes counts; with separators between thousands if one of them has more than five digits, where the eye can no longer count.
pub(super) fn grouped(numbers: &[u64]) -> Vec<String> {
    let separate = numbers.iter().any(|number| *number > 99_999);
    numbers.iter().map(|number| if separate { thousands(*number) } else { number.to_string() }).collect()
}

/// Writes a mean with one decimal; one that this would hide, or that would need many digits, in scientific form.
pub(super) fn decimal(number: f64) -> String {
    let size = number.abs();
    let small = size > 0.0 && size < 0.05;
    if number.is_finite() && (small || size >= 1e12) { format!("{number:.2e}") } else { format!("{number:.1}") }
}

/// Writes a duration as people say it: `0.18 s`, `12 s`, `3m 5s`.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.2} s", duration.as_secs_f64()),
        whole @ 10..60 => format!("{whole} s"),
        whole => humantime::format_duration(Duration::from_secs(whole)).to_string(),
    }
}

/// Draws a fill as a bar. What is not empty shows at least one block.
pub(super) fn bar(used: usize, capacity: usize) -> String {
    let filled = (used.min(capacity) * BAR).div_ceil(capacity.max(1));
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled))
}

/// Breaks text between words, so that no line is wider than `max` columns unless a word is. What the text begins with stays as it is.
pub(crate) fn broken(text: &str, max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.trim().is_empty() || width(line) + 1 + width(word) <= max => {
                write!(line, " {word}").expect("a string takes all text");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Sets text on as many lines as its words need, at most `lines_max`; the last of them is cut if that is not all.
pub(super) fn wrap(text: &str, max: usize, lines_max: usize) -> Vec<String> {
    let mut lines = broken(text, max);
    if lines.len() > lines_max {
        let rest = lines.split_off(lines_max.saturating_sub(1)).join(" ");
        lines.push(rest);
    }
    lines.iter().map(|line| clip(line, max)).collect()
}

/// Sets items side by side, ` · ` between them, on as few lines as hold them.
pub(super) fn pack(items: &[String], max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if width(line) + 3 + width(item) <= max => write!(line, " · {item}").expect("a string takes all text"),
            _ => lines.push(item.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::broken;

    #[test]
    fn a_line_is_broken_between_words_and_keeps_what_it_begins_with() {
        assert_eq!(broken("  takes    true or false", 80), ["  takes    true or false"]);
        assert_eq!(broken("", 80), [""]);
        let words = ["word"; 40].join(" ");
        let lines = broken(&words, 80);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= 80), "{lines:?}");
        assert_eq!(lines.join(" "), words);
    }
}
