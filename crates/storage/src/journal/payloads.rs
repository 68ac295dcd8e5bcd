//! Payloads: records of any bytes in the body of a frame.
//!
//! Owns: how they lie one behind the other, each behind its length (LEB128: seven bits a byte, the lowest first, the highest bit set in all
//! but the last). Of most records the length takes one byte, as a line end does.
//! Does not own: the frame around them (see [`super::frame`]), which has their number and their hash.

/// Bits of a length in a byte.
const BITS: u32 = 7;
/// What says that a further byte follows.
const MORE: u8 = 1 << BITS;

/// Appends a record.
pub fn push(body: &mut Vec<u8>, record: &[u8]) {
    let mut length = record.len();
    while length >= usize::from(MORE) {
        body.push(length as u8 | MORE);
        length >>= BITS;
    }
    body.push(length as u8);
    body.extend_from_slice(record);
}

/// Returns how many bytes a body has at most whose records were cut from `bytes` bytes of JSON, with at least one byte between each two.
pub fn bytes_max(bytes: usize) -> usize {
    // A length of more than one byte is that of a record of 128 bytes or more.
    bytes + bytes / usize::from(MORE) + 16
}

/// Returns each record of a body.
///
/// # Panics
/// At a body that [`push`] has not made: that of a frame has a hash.
pub fn each(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (mut length, mut shift) = (0, 0);
        loop {
            let (byte, behind) = match rest.split_first() {
                None if shift == 0 => return None,
                first => first.expect("a length ends within the body"),
            };
            rest = behind;
            length |= usize::from(byte & !MORE) << shift;
            shift += BITS;
            if byte & MORE == 0 {
                break;
            }
        }
        let (record, behind) = rest.split_at_checked(length).expect("a record ends within the body");
        rest = behind;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_bytes_and_lengths_come_out_as_they_went_in() {
        let lengths = [0, 1, 127, 128, 129, 16_383, 16_384, 3_000_000];
        let records: Vec<Vec<u8>> = lengths.iter().map(|length| (0..*length).map(|at| at as u8).collect()).collect();
        let mut body = Vec::new();
        records.iter().for_each(|record| push(&mut body, record));
        assert_eq!(each(&body).collect::<Vec<_>>(), records);
        assert_eq!(each(&[]).count(), 0);
    }

    #[test]
    fn a_body_is_not_larger_than_was_said_of_the_array_that_it_was_cut_from() {
        for length in [1, 2, 127, 128, 16_383, 16_384] {
            for records in [1, 2, 1000] {
                let mut body = Vec::new();
                (0..records).for_each(|_| push(&mut body, &vec![b'1'; length]));
                let array = records * (length + 1) + 1;
                assert!(body.len() <= bytes_max(array), "{records} of {length}: {} and {}", body.len(), bytes_max(array));
            }
        }
    }
}
