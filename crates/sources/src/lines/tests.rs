use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A stream that gives its bytes in the portions named, then ends.
struct Portions(VecDeque<Vec<u8>>);

impl Portions {
    fn new(portions: &[&[u8]]) -> Self {
        Self(portions.iter().map(|portion| portion.to_vec()).collect())
    }
}

impl Read for Portions {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut portion) = self.0.pop_front() else { return Ok(0) };
        let taken = portion.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&portion[..taken]);
        if taken < portion.len() {
            self.0.push_front(portion.split_off(taken));
        }
        Ok(taken)
    }
}

#[test]
fn zeros_before_a_line_are_no_content_of_it_and_those_at_the_end_are_nothing() {
    let hole = vec![0; 3_000_000];
    let tail = vec![0; 200_000];
    for (portions, records) in [
        (vec![&hole[..], b"1\n2\n", &tail[..]], vec!["1\n2\n"]),
        (vec![b"1\n\0\0", &hole[..], b"\x002\n\0\0", b"3"], vec!["1\n", "2\n", "3"]),
        (vec![b"1\n2", &tail[..500]], vec!["1\n", "2"]),
        (vec![&tail[..]], vec![]),
    ] {
        let whole: u64 = portions.iter().map(|portion| portion.len() as u64).sum();
        let mut reader = LineReader::new(Portions::new(&portions), 1000);
        let (mut got, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = reader.next(Unterminated::Record).unwrap() {
            let Records::Lines(lines) = piece.records else { panic!("a record is too long") };
            assert_eq!(piece.bytes, lines.len() as u64);
            bytes += piece.bytes;
            if lines.iter().any(|byte| *byte != 0) {
                got.push(String::from_utf8(lines.to_vec()).unwrap());
            }
        }
        assert_eq!(got, records);
        assert_eq!(bytes + reader.forget_padding(), whole);
    }
}

/// A record as any cutting must give it: its bytes (head), its length.
type Record = (Vec<u8>, u64);

/// Splits the simple way: the whole input in memory.
fn oracle(input: &[u8], max: usize, unterminated: Unterminated) -> Vec<Record> {
    let mut lines: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().unwrap();
    if unterminated == Unterminated::Record && !last.is_empty() {
        lines.push(last);
    }
    let kept = |line: &[u8]| if line.len() > max { line.len().min(HEAD_BYTES_MAX) } else { line.len() };
    lines.into_iter().map(|line| (line[..kept(line)].to_vec(), line.len() as u64)).collect()
}

/// Reads to the end; checks that the pieces' byte counts and line counts are those of the stream.
fn read_all(input: Portions, max: usize, unterminated: Unterminated) -> (Vec<Record>, u64) {
    let whole: Vec<u8> = input.0.iter().flatten().copied().collect();
    let mut reader = LineReader::new(input, max);
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(piece) = reader.next(unterminated).unwrap() {
        bytes += piece.bytes;
        let read = &whole[..usize::try_from(bytes).unwrap()];
        let last = usize::try_from(piece.bytes).unwrap().min(TAIL_BYTES_MAX);
        let tail = if matches!(piece.records, Records::TooLong { .. }) { &read[read.len() - last..] } else { &[] };
        assert_eq!(piece.tail, tail);
        let lines = piece.lines();
        let before = records.len();
        match piece.records {
            Records::Lines(lines) => {
                let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
                records.extend(lines.split(|&byte| byte == b'\n').map(|line| (line.to_vec(), line.len() as u64)));
                assert!(records[before..].iter().all(|(line, _)| line.len() <= max), "a line of Lines is too long");
            }
            Records::TooLong { head, length, .. } => {
                assert!(length > max as u64, "{length} is not too long");
                records.push((head.to_vec(), length));
            }
            Records::Arrow(_) | Records::Payloads(_) => unreachable!("lines only"),
        }
        assert_eq!(lines, (records.len() - before) as u64);
    }
    (records, bytes)
}

fn lines_of(reader: &mut LineReader<Portions>, unterminated: Unterminated) -> Option<String> {
    let piece = reader.next(unterminated).unwrap()?;
    let Records::Lines(lines) = piece.records else { panic!("not lines: {piece:?}") };
    Some(String::from_utf8(lines.to_vec()).unwrap())
}

#[test]
fn whole_lines_are_given_as_soon_as_a_read_returns() {
    let mut reader = LineReader::new(Portions::new(&[b"a\nb\nc", b"c\n", b"d"]), 100);
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "a\nb\n");
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "cc\n");
    assert_eq!(lines_of(&mut reader, Unterminated::Wait), None);
}

#[test]
fn an_unterminated_last_line_waits_until_the_stream_goes_on() {
    let mut reader = LineReader::new(Portions::new(&[b"a\nb"]), 100);
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "a\n");
    assert_eq!(lines_of(&mut reader, Unterminated::Wait), None);
    reader.input.0.push_back(b"b\nc".to_vec());
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "bb\n");
    assert_eq!(lines_of(&mut reader, Unterminated::Wait), None);
    assert_eq!(lines_of(&mut reader, Unterminated::Record).unwrap(), "c");
    assert_eq!(lines_of(&mut reader, Unterminated::Record), None);
}

#[test]
fn a_stream_that_stands_still_holds_no_buffer() {
    let mut reader = LineReader::new(Portions::new(&[b"a\n"]), 100);
    assert_eq!(reader.buffer.capacity(), 0);
    lines_of(&mut reader, Unterminated::Wait).unwrap();
    assert_eq!(lines_of(&mut reader, Unterminated::Wait), None);
    assert_eq!(reader.buffer.capacity(), 0);
}

#[test]
fn a_line_of_exactly_the_limit_is_kept_and_one_byte_more_is_too_long() {
    let records = |input: &[u8]| read_all(Portions::new(&[input]), 4, Unterminated::Record).0;
    assert_eq!(records(b"1234\n"), [(b"1234".to_vec(), 4)]);
    let mut reader = LineReader::new(Portions::new(&[b"a\n12345\nb\n"]), 4);
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "a\n");
    let too_long = reader.next(Unterminated::Wait).unwrap().unwrap();
    assert_eq!(too_long.bytes, 6);
    assert!(matches!(too_long.records, Records::TooLong { head, length: 5, .. } if head == "12345"));
    assert_eq!(lines_of(&mut reader, Unterminated::Wait).unwrap(), "b\n");
}

#[test]
fn a_record_of_64_megabytes_is_counted_and_not_kept() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.min(buffer.len() as u64) as usize;
            buffer[..bytes].fill(b'x');
            self.0 -= bytes as u64;
            Ok(bytes)
        }
    }
    let mut reader = LineReader::new(Endless(64 << 20), 1 << 20);
    let piece = reader.next(Unterminated::Record).unwrap().unwrap();
    assert_eq!(piece.bytes, 64 << 20);
    assert!(matches!(&piece.records, Records::TooLong { head, length, .. } if head.len() == HEAD_BYTES_MAX && *length == 64 << 20));
    assert!(reader.next(Unterminated::Record).unwrap().is_none());
}

#[test]
fn a_failing_read_is_reported_and_an_interrupted_one_repeated() {
    struct Failing(u32);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => {
                    buffer[..2].copy_from_slice(b"a\n");
                    Ok(2)
                }
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
    let mut reader = LineReader::new(Failing(0), 10);
    assert_eq!(reader.next(Unterminated::Wait).unwrap().unwrap().bytes, 2);
    assert_eq!(reader.next(Unterminated::Wait).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

proptest! {
    #[test]
    fn any_portions_of_the_input_give_the_same_records(
        lines in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), 1..=u8::MAX], 0..40), 0..20),
        cuts in prop::collection::vec(0..800_usize, 0..30),
        max in 0..30_usize,
        wait in any::<bool>(),
    ) {
        let input = lines.join(&b'\n');
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut < input.len()).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let portions: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        let unterminated = if wait { Unterminated::Wait } else { Unterminated::Record };
        let (records, bytes) = read_all(Portions::new(&portions), max, unterminated);
        prop_assert_eq!(records, oracle(&input, max, unterminated));
        let whole = if wait { input.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1) } else { input.len() };
        prop_assert_eq!(bytes, whole as u64);
    }
}

proptest! {
    // A case moves megabytes.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn records_longer_than_the_buffer_keep_their_head_and_length(
        lengths in prop::collection::vec(prop_oneof![0..2000_usize, (HEAD_BYTES_MAX - 2)..(HEAD_BYTES_MAX + 3), (BUFFER_BYTES - 2)..(3 * BUFFER_BYTES)], 1..6),
        max in prop_oneof![1..100_usize, (HEAD_BYTES_MAX - 2)..(2 * BUFFER_BYTES)],
        portion in 1000..(2 * BUFFER_BYTES),
    ) {
        let line = |(index, &length): (usize, &usize)| {
            let mut line: Vec<u8> = (0..length).map(|at| b'a' + ((at + index) % 23) as u8).collect();
            line.push(b'\n');
            line
        };
        let input: Vec<u8> = lengths.iter().enumerate().flat_map(line).collect();
        let portions: Vec<&[u8]> = input.chunks(portion).collect();
        let (records, bytes) = read_all(Portions::new(&portions), max, Unterminated::Record);
        prop_assert!(records == oracle(&input, max, Unterminated::Record), "lengths {lengths:?}, max {max}, portion {portion}");
        prop_assert_eq!(bytes, input.len() as u64);
    }
}
