//! Payloads: what is a record, what is none, and what stands around it.

use super::*;

fn schema() -> String {
    record(json!([{ "name": "a", "type": "long" }, { "name": "b", "type": ["null", "string"] }]))
}

fn payload(a: i64, b: &str) -> Vec<u8> {
    Record(vec![Integer(a), some(1, text(b))]).bytes()
}

#[test]
fn a_payload_that_does_not_decode_is_a_dead_letter_and_those_around_it_are_rows() {
    let (good, mut short, mut long) = (payload(1, "x"), payload(2, "yy"), payload(3, "z"));
    short.pop();
    long.push(9);
    let not_utf8 =
        [payload(4, ""), vec![]].concat().iter().map(|byte| if *byte == 0 { 2 } else { *byte }).chain([0xff]).collect::<Vec<_>>();
    let bad_branch = [&Integer(5).bytes()[..], &Integer(7).bytes()].concat();
    let payloads: Vec<&[u8]> = vec![&good, &short, &good, &long, &not_utf8, b"", &bad_branch, b"{\"a\":1}", &good];
    let decoded = decode_all(&mut decoder_of(&schema(), Framing::None), &payloads);
    assert_eq!(rows_of(&decoded), vec![json!({ "a": 1, "b": "x" }); 3]);
    let letters: Vec<_> = decoded.dead_letters.iter().map(|letter| (letter.offset - 100, letter.reason.to_string())).collect();
    let reasons = [
        (1, "column `b`: a length of 2 bytes, where 1 are left"),
        (3, "1 bytes are left behind the record: was it written by another schema?"),
        (4, "column `b`: not valid UTF-8 at byte 1 of its text"),
        (5, payload::BLANK),
        (6, "column `b`: branch 7 of a union of 2"),
        (7, "column `b`: branch 17 of a union of 2 (it begins as JSON does)"),
    ];
    assert_eq!(letters, reasons.map(|(at, why)| (at, why.to_owned())));
}

#[test]
fn a_record_cut_anywhere_is_a_dead_letter_and_leaves_nothing_behind() {
    let of = json!([
        { "name": "l", "type": { "type": "array", "items": { "type": "record", "name": "I", "fields": [
            { "name": "m", "type": { "type": "map", "values": ["null", "string"] } }, { "name": "n", "type": "double" }] } } },
        { "name": "u", "type": ["null", "int", { "type": "array", "items": "string" }] },
        { "name": "t", "type": "string" },
    ]);
    let item = |key: &str| Record(vec![Map(vec![(key.to_owned(), some(1, text("v"))), ("w".to_owned(), some(0, Null))]), Double(0)]);
    let written = Record(vec![Array(vec![item("a"), item("b")]), some(2, Array(vec![text("x")])), text("end")]);
    let whole = written.bytes();
    let mut decoder = decoder_of(&record(of), Framing::None);
    let expected = rows_of(&decode_all(&mut decoder, &[&whole]));
    for cut in 0..whole.len() {
        let decoded = decode_all(&mut decoder, &[&whole, &whole[..cut], &whole]);
        assert_eq!(decoded.dead_letters.len(), 1, "{cut}");
        assert_eq!(rows_of(&decoded), [&expected[..], &expected].concat(), "{cut}");
    }
}

#[test]
fn a_frame_is_taken_off_where_each_has_one_and_named_where_none_should() {
    let framed = |id: [u8; 4]| [&[0][..], &id, &payload(1, "x")].concat();
    let (first, last) = (framed([0, 0, 0, 7]), framed([0xff; 4]));
    let mut decoder = decoder_of(&schema(), Framing::Confluent);
    let decoded = decode_all(&mut decoder, &[&first, &last, &payload(2, "y"), &[0, 0, 0, 1], b""]);
    assert_eq!(rows_of(&decoded), vec![json!({ "a": 1, "b": "x" }); 2]);
    let reasons: Vec<_> = decoded.dead_letters.iter().map(|letter| letter.reason.to_string()).collect();
    assert_eq!(reasons, [payload::UNFRAMED, payload::UNFRAMED, payload::BLANK]);
    let why = one(&schema(), &first).unwrap_err();
    assert!(why.contains("bytes are left behind the record") && why.contains("`schema.framing` = \"confluent\""), "{why}");
}

#[test]
fn a_tombstone_is_a_row_without_values_where_all_columns_may_have_none() {
    let optional = record(json!([{ "name": "a", "type": ["null", "long"] }, { "name": "b", "type": ["string", "null"] }]));
    let decoded = decoder_of(&optional, Framing::None).decode(&messages([None])).unwrap();
    assert_eq!(rows_of(&decoded), [json!({ "a": null, "b": null })]);
    let decoded = decoder_of(&schema(), Framing::None).decode(&messages([None])).unwrap();
    let why = decoded.dead_letters[0].reason.to_string();
    assert!(why.contains("a tombstone") && why.contains("column `a`: the value is missing, and the column is required"), "{why}");
}

#[test]
fn lines_are_no_records_and_each_is_told() {
    let lines = chunk(Records::Lines("{\"a\":1}\n\nx".into()), 0, OffsetUnit::Bytes);
    let decoded = decoder_of(&schema(), Framing::None).decode(&Batch::new(vec![lines])).unwrap();
    let letters: Vec<_> = decoded.dead_letters.iter().map(|letter| (letter.offset, letter.bytes.as_ref())).collect();
    assert_eq!((decoded.records_in, letters), (2, vec![(0, &b"{\"a\":1}"[..]), (9, b"x")]));
}

#[test]
fn batches_come_one_after_the_other_from_the_same_decoder() {
    let mut decoder = decoder_of(&schema(), Framing::None);
    for n in 0..3 {
        let (first, second) = (payload(n, "x"), payload(n + 1, "yy"));
        let decoded = decode_all(&mut decoder, &[&first, b"", &second]);
        assert_eq!(rows_of(&decoded), [json!({ "a": n, "b": "x" }), json!({ "a": n + 1, "b": "yy" })]);
    }
    let decoded = decode_all(&mut decoder, &[b""]);
    assert_eq!((decoded.batch.num_rows(), decoded.batch.num_columns()), (0, 2));
}
