use pintail_decode::infer::infer;

use super::*;

fn sample(of: impl Fn(usize) -> String) -> Inferred {
    let lines: String = (0..100).map(|n| of(n) + "\n").collect();
    infer(lines.as_bytes(), 1_000).unwrap()
}

fn sales() -> Inferred {
    sample(|n| {
        let (shop, state) = (["berlin", "boston", "bern"][n % 3], ["new", "done"][n % 2]);
        format!(r#"{{"id":{n},"at":"2026-01-05T10:00:00Z","paid":"2026-01-05T11:00:00Z","shop":"{shop}","state":"{state}","price":{n}.5}}"#)
    })
}

fn draft(inferred: Inferred, wishes: &Wishes) -> Result<Draft> {
    Draft::new(Input::Files(vec!["sales.ndjson".into()]), Path::new("lake"), inferred, wishes, None)
}

fn asked(inferred: Inferred, typed: &str) -> (Draft, String) {
    let (mut from, mut to) = (typed.as_bytes(), Vec::new());
    let person = Person { from: &mut from, to: &mut to };
    let draft = Draft::new(Input::Stdin, Path::new("lake"), inferred, &Wishes::default(), Some(person)).unwrap();
    (draft, String::from_utf8(to).unwrap())
}

#[test]
fn what_nobody_says_is_chosen_from_the_sample_and_said() {
    let draft = draft(sales(), &Wishes::default()).unwrap();
    assert_eq!((draft.event_time.as_deref(), &draft.partition_by[..]), (Some("at"), &["state".to_owned()][..]));
    assert_eq!(draft.chosen, ["event time  at (--event-time; or paid)", "partitions  state, 2 values (--partition-by; or shop, 3 values)"]);
    assert_eq!(draft.first_query(), "SELECT state, count(*) FROM events GROUP BY ALL");
}

#[test]
fn integers_that_are_times_become_the_event_time_where_there_is_no_other() {
    let times = || sample(|n| format!(r#"{{"ts":{},"created_at":1767225600,"x":"{n}"}}"#, 1_767_225_600_000_i64 + n as i64));
    let wishes = |event_time: &str| Wishes { event_time: Some(event_time.into()), ..Wishes::default() };
    let chosen = draft(times(), &Wishes::default()).unwrap();
    assert_eq!(chosen.event_time.as_deref(), Some("ts"));
    assert!(chosen.text().contains("{ name = \"ts\", type = \"timestamp_ms\" }"), "{}", chosen.text());
    assert!(draft(times(), &wishes("created_at")).unwrap().text().contains("{ name = \"created_at\", type = \"timestamp_s\" }"));
    let none = draft(times(), &wishes("")).unwrap();
    assert!(none.event_time.is_none() && !none.text().contains("timestamp_ms\" }"));
}

#[test]
fn a_person_is_asked_only_where_there_is_a_choice() {
    let (chosen, questions) = asked(sales(), "paid\nshpo\nshop\n");
    assert_eq!((chosen.event_time.as_deref(), &chosen.partition_by[..]), (Some("paid"), &["shop".to_owned()][..]));
    assert!(questions.contains("at; paid; - for none\n[at] ") && questions.contains("`shpo` is none of them"), "{questions}");
    let (chosen, _) = asked(sales(), "\n-\n");
    assert_eq!((chosen.event_time.as_deref(), chosen.partition_by.len()), (Some("at"), 0));
    let one = sample(|n| format!(r#"{{"at":"2026-01-05T10:00:00Z","shop":"{}"}}"#, n % 2));
    assert_eq!(asked(one, "").1, "");
}

#[test]
fn a_column_that_is_not_there_is_refused_with_the_nearest() {
    let wishes = Wishes { partition_by: Some(vec!["shpo".into()]), ..Wishes::default() };
    let error = draft(sales(), &wishes).unwrap_err().to_string();
    assert!(error.ends_with("; did you mean `shop`?"), "{error}");
    assert!(error.starts_with("--partition-by: there is no column `shpo` among id, at"), "{error}");
}

#[test]
fn the_text_says_the_same_as_the_settings_and_is_a_page() {
    let hostile = sample(|n| format!(r#"{{"a\"b\n#":{n},"c.d":{{"e":"\u001b"}},"t":"x{}"}}"#, n % 2));
    let sql = "SELECT *,\n  't' AS \"it's\"\nFROM events";
    for (inferred, sql) in [(sales(), None), (hostile, Some(sql)), (sales(), Some("SELECT id FROM events WHERE shop <> ''"))] {
        let wishes = Wishes { sql: sql.map(str::to_owned), partition_by: sql.map(|_| Vec::new()), event_time: sql.map(|_| String::new()) };
        let draft = draft(inferred, &wishes).unwrap();
        let text = draft.text();
        assert!((10..=42).contains(&text.lines().count()), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let written = Config::load(Some(file.path()), std::iter::empty(), &[]).unwrap();
        let set = Config::load(None, std::iter::empty(), &draft.settings()).unwrap();
        assert_eq!(written.sha256, set.sha256, "{text}");
        assert_eq!(written.transform.sql, sql.unwrap_or(ALL));
    }
}
