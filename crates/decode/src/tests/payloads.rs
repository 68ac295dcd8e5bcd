//! Payloads: one record each, whatever bytes it has.

use pintail_core::batch::LetterForm;
use pintail_core::messages::{Message, PayloadsBuilder};
use pintail_core::schema::MetadataColumn;

use super::*;

const V: &[(&str, &str)] = &[("v", "int64!"), ("w", "text")];

fn batch(messages: &[Message<'_>]) -> Batch {
    let mut builder = PayloadsBuilder::default();
    (100..).zip(messages).for_each(|(position, message)| builder.push(position, message));
    Batch::new(vec![chunk(Records::Payloads(builder.finish()), 100, OffsetUnit::Records)])
}

fn payload(payload: &[u8]) -> Message<'_> {
    Message { payload: Some(payload), ..Message::default() }
}

/// Decodes payloads; returns the values of `v`, and position and reason of each dead letter.
fn values(payloads: &[&[u8]]) -> (Vec<String>, Vec<(u64, String)>) {
    let messages: Vec<_> = payloads.iter().map(|bytes| payload(bytes)).collect();
    let decoded = Ndjson::new(&schema(V)).decode(&batch(&messages)).unwrap();
    assert_eq!(decoded.records_in as usize, payloads.len(), "one payload is one record");
    for letter in &decoded.dead_letters {
        let original = payloads[(letter.offset - 100) as usize];
        assert_eq!((&letter.bytes[..], letter.length, letter.form), (original, original.len() as u64, LetterForm::Record));
    }
    let letters = decoded.dead_letters.iter().map(|letter| (letter.offset, letter.reason.to_string())).collect();
    (cells(&decoded.batch).into_iter().map(|row| row[0].clone().unwrap()).collect(), letters)
}

#[test]
fn an_object_may_stand_on_several_lines_behind_a_mark_or_in_the_frame_of_a_registry() {
    let good: [&[u8]; 6] = [
        b"{\"v\":0}",
        b"{\n  \"v\": 1,\r\n  \"w\": \"x\"\n}\n",
        b"\xef\xbb\xbf{\"v\":2}",
        b"\0\0\0\0\x07{\"v\":3}",
        b"\0\xff\xff\xff\xff {\n\"v\":4}\n",
        b"\n\n {\"w\":\"\\u0041\",\"v\":5} \n",
    ];
    assert_eq!(values(&good), (["0", "1", "2", "3", "4", "5"].map(String::from).into(), Vec::new()));
}

#[test]
fn what_is_no_single_object_is_a_dead_letter_with_all_its_bytes() {
    let bad: [&[u8]; 11] = [
        b"",
        b" \r\n\t",
        b"{\"v\":1}\n{\"v\":2}",
        b"{\"v\":1} {\"v\":2}\n",
        b"\0\0\0\0\x05\x02\x06abc",
        b"\0{\"v\":9}",
        b"\0",
        b"{\"w\":\"a\nb\",\"v\":1}",
        b"\xff{\"v\":1}",
        b"{\"v\":1}\0",
        b"\0\0\0\0\x07{\"v\":}",
    ];
    let (rows, letters) = values(&bad);
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(letters.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (100..111).collect::<Vec<_>>());
    assert!(letters[0].1.contains("empty") && letters[1].1.contains("empty"), "{letters:?}");
    assert!(letters[4].1.contains("schema 5"), "{letters:?}");
}

#[test]
fn a_character_cut_between_two_payloads_is_none_of_either() {
    let (rows, letters) = values(&[b"{\"v\":1,\"w\":\"\xc3", b"\xa9\"}", b"{\"v\":2,\"w\":\"\xc3\xa9\"}"]);
    assert_eq!((rows, letters.len()), (vec!["2".to_owned()], 2));
}

#[test]
fn payloads_behind_a_cut_and_beside_lines_keep_their_order_and_positions() {
    let mut whole = batch(&[payload(b"{\"v\":1}"), payload(b"x"), payload(b"{\"v\":2}"), payload(b"{\"v\":3}")]);
    let mut rest = whole.chunks.pop().unwrap();
    let front = rest.split_off_front(2);
    let between = chunk(Records::Lines("{\"v\":7}\n".into()), 500, OffsetUnit::Records);
    let decoded = Ndjson::new(&schema(V)).decode(&Batch::new(vec![front, between, rest])).unwrap();
    let rows: Vec<_> = cells(&decoded.batch).into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!((rows, decoded.dead_letters[0].offset), (["1", "7", "2", "3"].map(String::from).into(), 101));
    let letters: Vec<_> = (0..4).map(|row| decoded.origins.dead_letter(row, Phase::Sql, "why".into())).collect();
    assert_eq!(letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [100, 500, 102, 103]);
    assert_eq!((&letters[3].bytes[..], letters[1].message.is_none()), (&b"{\"v\":3}"[..], true));
}

#[test]
fn a_tombstone_is_a_record_without_values_and_where_that_does_not_fit_a_dead_letter_of_its_own_form() {
    let tombstone = Message { key: Some(b"\xff"), headers: vec![("h".into(), None)], ..Message::default() };
    let decoded = Ndjson::new(&schema(&[("v", "int64")])).decode(&batch(&[tombstone.clone(), payload(b"{\"v\":1}")])).unwrap();
    assert_eq!(cells(&decoded.batch), [[None], [Some("1".to_owned())]]);
    assert_eq!(decoded.origins.dead_letter(0, Phase::Sql, "why".into()).form, LetterForm::Tombstone);
    let decoded = Ndjson::new(&schema(V)).decode(&batch(&[tombstone])).unwrap();
    let letter = &decoded.dead_letters[0];
    assert_eq!((decoded.records_in, letter.form, letter.bytes.len(), letter.length), (1, LetterForm::Tombstone, 0, 0));
    let message = letter.message.as_ref().unwrap();
    assert_eq!((message.key.as_deref(), message.headers.iter().collect::<Vec<_>>()), (Some(&b"\xff"[..]), vec![("h", None)]));
}

#[test]
fn what_a_broker_says_becomes_columns_and_is_null_where_nobody_said_it() {
    let text = |name, column_type: &str| MetadataColumn { name, column_type: column_type.parse().unwrap() };
    let metadata = vec![
        text("_topic", "dictionary"),
        text("_partition", "int32"),
        text("_offset", "int64"),
        text("_timestamp", "timestamp_ms"),
        text("_key", "text"),
        text("_headers", "json"),
    ];
    let schema = EventSchema { metadata, ..schema(&[("v", "int64")]) };
    let place = || Message { topic: Some("events"), partition: Some(3), payload: Some(b"{}"), ..Message::default() };
    let headers = vec![("a\"".into(), Some(&b"1"[..])), ("b".into(), None), ("a\"".into(), Some(&b"\xff\\"[..]))];
    let mut both = batch(&[
        Message { offset: Some(7), timestamp_ms: Some(5), key: Some(b"k"), headers, ..place() },
        Message { payload: Some(b"no JSON"), offset: Some(8), ..place() },
        Message { offset: Some(9), key: Some(b"\xf0k"), ..place() },
    ]);
    both.chunks.push(chunk(Records::Lines("{}\n".into()), 500, OffsetUnit::Records));
    let decoded = Ndjson::new(&schema).decode(&both).unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&[decoded.batch]).unwrap().to_string();
    let cells: Vec<Vec<&str>> = shown.lines().skip(3).map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(cells[0][2..8], ["events", "3", "7", "1970-01-01T00:00:00.005", "k", r#"{"a\"":"1","b":null,"a\"":"\\xFF\\x5C"}"#]);
    assert_eq!(cells[1][2..8], ["events", "3", "9", "", "\\xF0k", ""]);
    assert_eq!(cells[2][2..8], ["", "", "", "", "", ""]);
}
