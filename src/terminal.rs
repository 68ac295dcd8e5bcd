//! The live table on a terminal.
//!
//! Owns: the picture (`render`, pure), and the screen that redraws it in place with log lines above it.
//! Does not own: the figures (see `stages::monitor`), what is logged (see `logging`).

mod folded;
mod layout;
mod screen;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::folded::Folded;
pub(crate) use self::layout::broken;
pub(crate) use self::screen::Screen;

use itertools::Itertools;
use pintail_core::batch::Trigger;
use pintail_core::totals::{Total, Totals};
use pintail_sources::waiting::Waiting;

use self::layout::{Column, bar, cell, clip, decimal, grouped, pack, pad, seconds, wrap};

/// Group names are cut here: beyond it the figures would be pushed off the screen.
const NAME_WIDTH_MAX: usize = 32;
/// Notices are cut here: more of one would push the others, and the figures, off the screen.
const NOTICE_COLUMNS_MAX: usize = 800;
/// Lines of a notice on a narrow terminal.
const NOTICE_LINES_MAX: usize = 6;

/// What the table shows, as of one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Time since the start of the process.
    pub uptime: Duration,
    /// Records read a second, lately.
    pub records_per_second: f64,
    /// Records read since the start of the process.
    pub records: u64,
    /// Figures of what is not committed yet.
    pub open: Totals,
    /// Figures of what was committed.
    pub committed: Totals,
    /// Records rejected since the start of the process.
    pub dead_letters: u64,
    /// Lag: what the source holds beyond what was read, in the unit of its offsets; `None` if it cannot know.
    pub remaining: Option<u64>,
    /// The newest checkpoint of this process.
    pub last_checkpoint: Option<LastCheckpoint>,
    /// The channels between the stages, in the order of the line.
    pub channels: Vec<ChannelFill>,
    /// Whether the writer waits for space on the disk.
    pub disk_full: bool,
    /// What the writer holds back because too much of it was rejected.
    pub held: Option<String>,
    /// Why the source gives nothing at this moment.
    pub trouble: Option<String>,
    /// Which inputs of the source cannot be read at this moment.
    pub waiting: Waiting,
}

/// A committed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastCheckpoint {
    /// Its sequence number.
    pub sequence: u64,
    /// Files that it published.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Time from the barrier to the last step of the commit.
    pub took: Duration,
    /// Time since then.
    pub age: Duration,
    /// What caused it.
    pub trigger: Trigger,
}

/// How full a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelFill {
    /// What waits in it.
    pub name: &'static str,
    /// How many wait.
    pub used: usize,
    /// How many have room.
    pub capacity: usize,
}

/// Draws the table, every line ended by `\n` and at most `width` columns wide: what a person must know above, then the groups, and the state of the
/// line below. A terminal that is too low for all of it cuts at the bottom.
///
/// Groups stand in the order of their names, so that a row stays where it is while its figures change. `n` and the mean are over
/// open and committed rows; where the width allows, both counts follow. Text from events is escaped: it cannot move the cursor. Without a column of
/// `value`s there is no mean.
pub(crate) fn render(snapshot: &Snapshot, group_by: &str, value: Option<&str>, width: usize) -> String {
    let notice = |text: String| wrap(&cell(&text, NOTICE_COLUMNS_MAX), width, NOTICE_LINES_MAX);
    let mut lines: Vec<String> = notices(snapshot).into_iter().flat_map(notice).collect();
    lines.extend(table(snapshot, group_by, value, width));
    lines.extend(pack(&state(snapshot), width));
    lines.extend(pack(&channels(&snapshot.channels), width));
    lines.iter().flat_map(|line| [clip(line, width), "\n".to_owned()]).collect()
}

/// Says what hinders the line.
fn notices(snapshot: &Snapshot) -> Vec<String> {
    let Snapshot { disk_full, held, trouble, waiting, .. } = snapshot;
    let mut notices = Vec::new();
    notices.extend(disk_full.then(|| "DISK FULL: the line waits for space, nothing is lost".to_owned()));
    notices.extend(held.as_ref().map(|held| format!("PAUSED: {held}")));
    notices.extend(trouble.as_ref().map(|why| format!("WAITING FOR THE SOURCE: {why}")));
    notices.extend(waiting.named.first().map(|first| {
        let more = if waiting.count > 1 { format!(" (and {} more)", number(waiting.count as u64 - 1)) } else { String::new() };
        format!("CANNOT BE READ, the other inputs go on: {}: {}{more}", first.path, first.why)
    }));
    notices
}

/// A row of the table before it is laid out.
struct Row {
    name: String,
    all: Total,
    committed: u64,
    open: u64,
}

fn rows(snapshot: &Snapshot) -> Vec<Row> {
    // No limit: the totals were limited where they were collected.
    let mut all = snapshot.committed.clone();
    all.merge(&snapshot.open, usize::MAX);
    let rows_of =
        |totals: &Totals, name: Option<&str>| totals.groups().find(|(group, _)| *group == name).map_or(0, |(_, total)| total.rows);
    let named = all.groups().filter(|(name, _)| name.is_some());
    let null = all.groups().filter(|(name, _)| name.is_none());
    let mut rows: Vec<Row> = named
        .chain(null)
        .map(|(name, total)| Row {
            name: name
                .map_or_else(|| "NULL".to_owned(), |name| if name == "NULL" { "\"NULL\"".to_owned() } else { cell(name, NAME_WIDTH_MAX) }),
            all: *total,
            committed: rows_of(&snapshot.committed, name),
            open: rows_of(&snapshot.open, name),
        })
        .collect();
    if all.others().rows > 0 {
        let (committed, open) = (snapshot.committed.others().rows, snapshot.open.others().rows);
        rows.push(Row { name: "(others)".to_owned(), all: *all.others(), committed, open });
    }
    rows
}

fn table(snapshot: &Snapshot, group_by: &str, value: Option<&str>, width: usize) -> Vec<String> {
    let rows = rows(snapshot);
    let count = |header: &str, of: fn(&Row) -> u64| Column::numbers(header, grouped(&rows.iter().map(of).collect::<Vec<_>>()));
    let names = rows.iter().map(|row| row.name.clone()).collect();
    let mut columns = vec![Column::texts(&cell(group_by, NAME_WIDTH_MAX), names), count("n", |row| row.all.rows)];
    columns.extend(value.map(|value| {
        let means = rows.iter().map(|row| row.all.mean().map_or_else(|| "-".to_owned(), decimal));
        Column::numbers(&format!("avg_{}", cell(value, NAME_WIDTH_MAX)), means.collect())
    }));
    let taken = |columns: &[Column]| columns.iter().map(|column| column.width() + 3).sum::<usize>();
    let more = [count("committed", |row| row.committed), count("open", |row| row.open)];
    // Both or none: one of the two without the other reads as if the rest were lost.
    if taken(&columns) + taken(&more) <= width + 3 {
        columns.extend(more);
    }
    // On a narrow terminal the names give way, not the figures.
    let excess = taken(&columns).saturating_sub(width + 3);
    let name_width = columns[0].width().saturating_sub(excess).max(4);
    columns[0].narrow(name_width);
    let line = |index: Option<usize>| {
        let mut cells = columns.iter().map(|column| pad(column.cell(index), column.width()));
        cells.join(" | ").trim_end().to_owned()
    };
    std::iter::once(line(None)).chain((0..rows.len()).map(|row| line(Some(row)))).collect()
}

fn number(number: u64) -> String {
    grouped(&[number]).concat()
}

fn number_of(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// The state of the line, as items that may stand side by side.
fn state(snapshot: &Snapshot) -> Vec<String> {
    let uptime = Duration::from_secs(snapshot.uptime.as_secs());
    // A rate is never negative; the cast saturates.
    let rate = number(snapshot.records_per_second.round() as u64);
    let mut items = vec![
        format!("up {}", humantime::format_duration(uptime)),
        number_of(snapshot.records, "record", "records"),
        format!("{rate} records/s"),
    ];
    items.extend(snapshot.remaining.map(|lag| format!("lag {}", number(lag))));
    items.push(format!("dead letters {}", number(snapshot.dead_letters)));
    match &snapshot.last_checkpoint {
        None => items.push("no checkpoint yet".to_owned()),
        Some(last) => items.extend([
            format!("checkpoint {} ({}) {} ago", last.sequence, last.trigger, seconds(last.age)),
            format!(
                "{}, {}, {}",
                number_of(last.files, "file", "files"),
                number_of(last.rows, "row", "rows"),
                bytesize::ByteSize::b(last.bytes)
            ),
            format!("took {}", seconds(last.took)),
        ]),
    }
    items
}

fn channels(channels: &[ChannelFill]) -> Vec<String> {
    let item =
        |channel: &ChannelFill| format!("{} {} {}/{}", channel.name, bar(channel.used, channel.capacity), channel.used, channel.capacity);
    channels.iter().map(item).collect()
}
