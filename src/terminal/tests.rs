use pintail_sources::waiting::WaitingInput;
use unicode_width::UnicodeWidthChar;

use super::*;

fn totals(groups: &[(Option<&str>, u64, f64)]) -> Totals {
    let mut totals = Totals::default();
    for (name, rows, mean) in groups {
        totals.add(*name, Total { rows: *rows, values: *rows, sum: mean * *rows as f64 }, 100);
    }
    totals
}

fn buckets(scale: u64) -> Totals {
    totals(&[(Some("high"), 10_000 * scale, 90.0), (Some("medium"), 25_000 * scale, 55.0), (Some("low"), 15_000 * scale, 15.0)])
}

fn snapshot(open: Totals, committed: Totals) -> Snapshot {
    Snapshot {
        uptime: Duration::from_millis(61_500),
        records_per_second: 49_999.7,
        records: 50_000,
        open,
        committed,
        dead_letters: 3,
        remaining: Some(1_234_567),
        last_checkpoint: None,
        channels: vec![
            ChannelFill { name: "chunks", used: 16, capacity: 16 },
            ChannelFill { name: "batches", used: 1, capacity: 2 },
            ChannelFill { name: "frames", used: 0, capacity: 4 },
        ],
        disk_full: false,
        held: None,
        trouble: None,
        waiting: Waiting::default(),
    }
}

fn lines(snapshot: &Snapshot, width: usize) -> Vec<String> {
    render(snapshot, "bucket", Some("amount"), width).lines().map(str::to_owned).collect()
}

#[test]
fn the_first_fifty_thousand_events_look_as_the_book_says() {
    let picture = lines(&snapshot(buckets(1), Totals::default()), 80);
    assert_eq!(
        picture,
        [
            "bucket | n     | avg_amount | committed | open",
            "high   | 10000 | 90.0       | 0         | 10000",
            "low    | 15000 | 15.0       | 0         | 15000",
            "medium | 25000 | 55.0       | 0         | 25000",
            "up 1m 1s · 50000 records · 50000 records/s · lag 1,234,567 · dead letters 3",
            "no checkpoint yet",
            "chunks ████████ 16/16 · batches ████░░░░ 1/2 · frames ░░░░░░░░ 0/4",
        ]
    );
}

#[test]
fn figures_of_open_and_committed_rows_add_up_and_large_ones_are_grouped() {
    let picture = lines(&snapshot(buckets(1), buckets(100)), 80);
    assert_eq!(picture[0], "bucket | n         | avg_amount | committed | open");
    assert_eq!(picture[1], "high   | 1,010,000 | 90.0       | 1,000,000 | 10000");
    assert_eq!(picture[3], "medium | 2,525,000 | 55.0       | 2,500,000 | 25000");
}

#[test]
fn at_forty_columns_the_main_figures_stay_and_nothing_wraps() {
    let long = "a bucket whose name is much too long for the terminal";
    let mut narrow = snapshot(totals(&[(Some(long), 1_234_567, 5.0)]), Totals::default());
    narrow.last_checkpoint = Some(LastCheckpoint {
        sequence: 42,
        files: 5,
        rows: 1_500_000,
        bytes: 12_900_000,
        took: Duration::from_millis(180),
        age: Duration::from_secs(12),
        trigger: Trigger::Interval,
    });
    let picture = lines(&narrow, 40);
    assert!(picture.iter().all(|line| line.chars().count() <= 40), "{picture:#?}");
    assert_eq!(picture[0], "bucket          | n         | avg_amount");
    assert_eq!(picture[1], "a bucket whose… | 1,234,567 | 5.0");
    assert!(picture.contains(&"checkpoint 42 (interval) 12 s ago".to_owned()), "{picture:#?}");
    assert!(picture.contains(&"5 files, 1,500,000 rows, 12.3 MiB".to_owned()), "{picture:#?}");
    assert!(picture.contains(&"took 0.18 s".to_owned()), "{picture:#?}");
}

#[test]
fn text_from_events_cannot_move_the_cursor_or_turn_the_line() {
    let hostile = ["\x1b[2J\x1b[H", "two\nlines", "\u{202e}right to left", "bell\x07", "zero\u{200b}width", "\u{9b}31m"];
    for name in hostile {
        let picture = render(&snapshot(totals(&[(Some(name), 1, 1.0)]), Totals::default()), name, Some(name), 80);
        let odd = picture.chars().filter(|c| *c != '\n').find(|c| c.is_control() || c.width().unwrap_or(0) == 0);
        assert_eq!(odd, None, "{picture:?}");
        assert_eq!(picture.lines().count(), 5, "{picture}");
    }
}

#[test]
fn wide_characters_take_two_columns() {
    let picture = lines(&snapshot(totals(&[(Some("日本"), 1, 1.0), (Some("🦆"), 2, 2.0)]), Totals::default()), 80);
    assert_eq!(picture[1], "日本   | 1 | 1.0        | 0         | 1");
    assert_eq!(picture[2], "🦆     | 2 | 2.0        | 0         | 2");
}

#[test]
fn the_null_group_is_told_apart_from_the_text_null_and_comes_last() {
    let picture = lines(&snapshot(totals(&[(None, 1, 1.0), (Some("NULL"), 2, 1.0), (Some("x"), 3, 1.0)]), Totals::default()), 80);
    let names: Vec<&str> = picture[1..4].iter().map(|line| line.split(" | ").next().unwrap().trim()).collect();
    assert_eq!(names, ["\"NULL\"", "x", "NULL"]);
}

#[test]
fn groups_beyond_the_limit_are_one_line() {
    let mut open = Totals::default();
    for name in ["a", "b", "c"] {
        open.add(Some(name), Total { rows: 7, values: 0, sum: 0.0 }, 1);
    }
    let picture = lines(&snapshot(open, Totals::default()), 80);
    assert_eq!(picture[1], "a        |  7 | -          | 0         |  7");
    assert_eq!(picture[2], "(others) | 14 | -          | 0         | 14");
}

#[test]
fn a_full_disk_is_said_aloud() {
    let mut full = snapshot(Totals::default(), Totals::default());
    full.disk_full = true;
    assert!(lines(&full, 80).iter().any(|line| line.starts_with("DISK FULL")));
}

#[test]
fn what_is_held_back_is_said_aloud() {
    let mut paused = snapshot(Totals::default(), Totals::default());
    paused.held = Some("900 of 1000 records were rejected\x1b[2J".to_owned());
    let picture = lines(&paused, 80);
    let line = picture.iter().find(|line| line.starts_with("PAUSED")).unwrap();
    assert!(line.contains("900 of 1000") && !line.contains('\x1b'), "{line}");
}

#[test]
fn a_source_that_is_out_of_reach_is_said_aloud_and_what_a_server_says_moves_no_cursor() {
    let mut waiting = snapshot(Totals::default(), Totals::default());
    waiting.trouble = Some("cannot reach nats://127.0.0.1:4222: \x1b[2J connection refused, and so on and so on and on".to_owned());
    let picture = lines(&waiting, 80);
    let said = picture[..2].join(" ");
    assert!(said.starts_with("WAITING FOR THE SOURCE: cannot reach nats://127.0.0.1:4222: ") && said.ends_with("so on and on"), "{said}");
    assert!(!said.contains('\x1b') && picture.iter().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn inputs_that_wait_are_counted_and_the_first_is_named() {
    let input = |path: &str| WaitingInput { path: path.into(), why: "permission denied".into(), since: chrono::DateTime::UNIX_EPOCH };
    let mut waiting = snapshot(Totals::default(), Totals::default());
    waiting.waiting = Waiting { count: 3, named: vec![input("logs/a.ndjson"), input("logs/b.gz")] };
    let picture = lines(&waiting, 80);
    let said = picture[..2].join(" ");
    assert!(said.contains("logs/a.ndjson: permission denied (and 2 more)"), "{picture:#?}");
}

#[test]
fn a_long_notice_wraps_between_words_and_ends_before_it_fills_the_screen() {
    let mut paused = snapshot(Totals::default(), Totals::default());
    paused.held = Some("word ".repeat(300));
    let picture = lines(&paused, 40);
    let first_of_table = picture.iter().position(|line| line.starts_with("bucket")).unwrap();
    assert_eq!(first_of_table, NOTICE_LINES_MAX);
    assert!(picture[..first_of_table - 1].iter().all(|line| line.ends_with("word")), "{picture:#?}");
    assert!(picture[first_of_table - 1].ends_with('…'), "what is left out is said: {picture:#?}");
}

#[test]
fn there_is_no_mean_of_no_column() {
    let picture = render(&snapshot(totals(&[(Some("all"), 7, 1.0)]), Totals::default()), "rows", None, 80);
    assert!(picture.starts_with("rows | n | committed | open\nall  | 7 | 0         | 7\n"), "{picture}");
}

#[test]
fn a_channel_with_one_waiting_does_not_look_empty() {
    assert_eq!(bar(1, 1_000), "█░░░░░░░");
    assert_eq!(bar(0, 0), "░░░░░░░░");
    assert_eq!(bar(5, 4), "████████");
}

#[test]
fn means_keep_what_one_decimal_would_hide() {
    assert_eq!(decimal(0.0), "0.0");
    assert_eq!(decimal(0.001), "1.00e-3");
    assert_eq!(decimal(-2.5e15), "-2.50e15");
    assert_eq!(decimal(f64::NAN), "NaN");
}
