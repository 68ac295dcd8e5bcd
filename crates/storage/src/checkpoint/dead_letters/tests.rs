use super::super::paths::Paths;
use super::*;
use crate::durable::posix::Posix;

fn letter(bytes: &[u8]) -> DeadLetter {
    DeadLetter {
        phase: Phase::Sql,
        reason: "column `a`: \"x\" is no number\n".into(),
        partition: PartitionId::new("p"),
        offset: 7,
        form: LetterForm::Record,
        bytes: Bytes::copy_from_slice(bytes),
        length: 99,
        message: None,
    }
}

#[test]
fn any_bytes_read_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000042"));
    let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(42)).unwrap();
    let mut letters: Vec<_> = [&b"{\"a\":\"x\"}"[..], b"", b"\xff\xfe\n\0", "ü\n\r\u{2028}".as_bytes()].map(letter).into();
    letters.push(DeadLetter { form: LetterForm::OutputRow, ..letter(b"{\"a\":1}") });
    letters.iter().for_each(|letter| file.write(letter, None).unwrap());
    let new = file.finish().unwrap();
    assert_eq!((new.path.as_str(), new.rows), ("_pintail/dead_letters/0000000042.ndjson", 5));
    let path = staging.dir().join("0.inprogress");
    assert_eq!(read(&path).unwrap().map(|kept| kept.unwrap().letter).collect::<Vec<_>>(), letters);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(r#"{"phase":"sql","reason":"#) && text.contains(r#""record":"{\"a\":\"x\"}""#), "{text}");
    assert!(text.contains(r#""record_base64":"//4KAA==""#), "{text}");
}

#[test]
fn records_that_are_alike_are_one_line_and_read_back_each_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000042"));
    let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(42)).unwrap();
    let sql: Arc<str> = "ab".into();
    let at = |offset, tried: bool| Kept { letter: DeadLetter { offset, ..letter(b"1") }, tried: tried.then(|| sql.clone()) };
    let other = Kept { letter: letter(b"2"), tried: None };
    let alike: Vec<_> = (0..100_000).map(|n| at(n * 2, false)).chain([at(300_000, false), at(300_000, false)]).collect();
    let again = at(8, true);
    let written: Vec<_> = alike[..7].iter().chain([&other]).chain(&alike[7..]).chain([&again]).collect();
    written.iter().for_each(|kept| file.write(&kept.letter, kept.tried.as_ref()).unwrap());
    assert_eq!((file.rows(), file.bytes() < 1_000), (100_004, true));
    assert_eq!(file.finish().unwrap().rows, 100_004);
    let path = staging.dir().join("0.inprogress");
    let found: Vec<_> = read(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, alike.into_iter().chain([other, again]).collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
}

#[test]
fn records_without_end_that_differ_do_not_wait_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000042"));
    let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(42)).unwrap();
    for n in 0..20_000_u32 {
        file.write(&letter(&n.to_le_bytes()), None).unwrap();
        assert!(file.waiting_bytes <= WAITING_BYTES_MAX && file.waiting.len() == file.known.len());
    }
    file.finish().unwrap();
    let found: Vec<_> = read(&staging.dir().join("0.inprogress")).unwrap().map(|kept| kept.unwrap().letter.bytes).collect();
    assert_eq!(found, (0..20_000_u32).map(|n| Bytes::copy_from_slice(&n.to_le_bytes())).collect::<Vec<_>>());
}

#[test]
fn a_line_that_is_no_rejected_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ndjson");
    std::fs::write(&path, "{\"phase\":\"sql\",\"reason\":\"\",\"partition\":\"p\",\"offset\":0,\"length\":0}\n").unwrap();
    let error = read(&path).unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("line 1 of"), "{error}");
}

#[test]
fn messages_read_back_with_all_that_the_broker_said_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000042"));
    let mut file = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(42)).unwrap();
    let bytes = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
    let envelope = Envelope {
        topic: Some("events".into()),
        partition: Some(3),
        offset: Some(-1),
        timestamp_ms: Some(i64::MAX),
        key: bytes(b"\xff\0"),
        headers: [("a", bytes(b"\xfe")), ("", None), ("a", bytes(b"text\n"))].into_iter().collect(),
    };
    let text_key = Envelope { key: bytes(b"k"), ..Envelope::default() };
    let with = |bytes: &[u8], envelope: &Envelope| DeadLetter { message: Some(Arc::new(envelope.clone())), ..letter(bytes) };
    let letters = [
        with(b"\0\n\xff", &envelope),
        with(b"", &text_key),
        DeadLetter { form: LetterForm::Tombstone, ..with(b"", &text_key) },
        letter(b""),
    ];
    letters.iter().for_each(|letter| file.write(letter, None).unwrap());
    file.finish().unwrap();
    let path = staging.dir().join("0.inprogress");
    assert_eq!(read(&path).unwrap().map(|kept| kept.unwrap().letter).collect::<Vec<_>>(), letters);
    let text = std::fs::read_to_string(&path).unwrap();
    let message = r#""message":{"topic":"events","partition":3,"offset":-1,"timestamp_ms":9223372036854775807,"key_base64":"/wA=",
        "headers":[["a",{"base64":"/g=="}],["",null],["a","text\n"]]}"#;
    assert!(text.contains(&message.replace("\n        ", "")), "{text}");
    assert!(text.contains(r#""message":{"key":"k"},"tombstone":true}"#), "{text}");
}
