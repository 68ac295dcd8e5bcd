//! Evidence: what stood right before an offset, so that a position is checked and not believed.
//!
//! Owns: the key of a dataset, the marks made with it, and the one judgement of a position that serves every source ([`judge`]).
//! Does not own: looking at the source (each source does), what a gap leads to (`source.on_gap`), where evidence is kept (see
//! `pintail_storage::checkpoint::record`).
//!
//! A mark is an HMAC and not a plain hash: records may lie in a bucket that others read, and the content of a short record could be guessed
//! from its hash.

use std::fmt;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Sha256;

use crate::digest::hex;

mod body;

pub use body::{BLOCK_BYTES, Body};

/// The secret key of a dataset: 256 random bits.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; 32],
    /// Made once it is needed.
    bodies: Arc<OnceLock<Arc<body::Secret>>>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Key {
    /// Makes a new key.
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    /// Takes the key as it is kept.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { bytes, bodies: Arc::default() }
    }

    /// Returns what bodies are made with.
    fn secret(&self) -> Arc<body::Secret> {
        self.bodies.get_or_init(|| Arc::new(body::Secret::new(&self.bytes))).clone()
    }

    /// Reads the key as it is kept: 64 hexadecimal digits and a line end.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let digits = text.as_bytes().chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let bytes: Vec<u8> = digits.collect::<Option<_>>()?;
        bytes.try_into().ok().map(Self::new)
    }

    /// Returns the bytes, to be kept where only the owner reads them.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Marks the bytes of `parts`, one after another: HMAC-SHA-256 (RFC 2104), cut to 128 bits.
    pub fn mark(&self, parts: &[&[u8]]) -> Mark {
        let mut mac = self.mac();
        parts.iter().for_each(|part| mac.update(part));
        mark_of(mac)
    }

    /// Marks the beginnings of `bytes` that have these lengths, in ascending order: each as [`Self::mark`] does, in one pass over the bytes.
    ///
    /// # Panics
    /// If a length is shorter than the one before it, or longer than the bytes.
    pub fn marks_of_beginnings(&self, bytes: &[u8], lengths: &[usize]) -> Vec<Mark> {
        let (mut mac, mut at) = (self.mac(), 0);
        let marks = lengths.iter().map(|length| {
            mac.update(&bytes[at..*length]);
            at = *length;
            mark_of(mac.clone())
        });
        marks.collect()
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.bytes).expect("HMAC takes keys of any length")
    }

    /// Returns what tells this key from another without telling the key.
    pub fn fingerprint(&self) -> Mark {
        self.mark(&[b"pintail: the fingerprint of this key"])
    }
}

fn mark_of(mac: Hmac<Sha256>) -> Mark {
    let mut mark = [0; 16];
    mark.copy_from_slice(&mac.finalize().into_bytes()[..16]);
    Mark(mark)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The mark of some bytes of the source: 128 bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

impl Mark {
    /// Makes one mark of two.
    pub fn with(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({self})")
    }
}

impl std::str::FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no mark of 32 hexadecimal digits");
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(lower) {
            return Err(refuse());
        }
        u128::from_str_radix(text, 16).map(|mark| Self(mark.to_be_bytes())).map_err(|_| refuse())
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What stood in the range `[from, to)` of a source partition: a message, or some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// First offset.
    pub from: u64,
    /// First offset behind it.
    pub to: u64,
    /// The time that the source gave it, in the source's unit: nanoseconds (NATS) or milliseconds (Kafka) since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// The leader epoch that it was written in (Kafka).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i32>,
    /// The mark of its bytes.
    pub mark: Mark,
}

impl Witness {
    /// Returns whether what is seen in its place is what stood there; `None` if nothing can be seen there. What one side does not know (a time, an
    /// epoch) cannot contradict.
    pub fn agrees(&self, seen: &Seen) -> Option<bool> {
        let Seen::Present { mark, time, epoch } = *seen else { return None };
        let differs = |was: Option<i64>, is: Option<i64>| was.zip(is).is_some_and(|(was, is)| was != is);
        Some(self.mark == mark && !differs(self.time, time) && !differs(self.epoch.map(i64::from), epoch.map(i64::from)))
    }
}

/// What is known of the source at an offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where the partition was found, in the words of its source: device and inode of a file. `None` where a partition has no place but its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<str>>,
    /// The end of the partition as it was seen last, if that lay behind the offset: what is between is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// What stood at or before the offset, in the order of `to`. A file has its beginning and the bytes before the offset. The journal, which
    /// answers for what is not read yet, has its end at that time too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<Witness>,
    /// The mark of all whole KiB of a file before the offset (see [`Body`]); `None` if there is none, or an earlier version made the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Mark>,
    /// A compressed file, as it lies on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// A compressed file that was read to its end, by its compressed bytes: to look at these costs no decompression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its length.
    pub bytes: u64,
    /// Its first and its last bytes.
    pub witnesses: Vec<Witness>,
}

/// What a look at the source shows in the place of one witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This stands there.
    Present {
        /// The mark of its bytes.
        mark: Mark,
        /// The time that the source gives it.
        time: Option<i64>,
        /// The leader epoch that it was written in.
        epoch: Option<i32>,
    },
    /// Nothing can be seen there any more: retention, compaction, an acknowledgement.
    Gone,
    /// Nothing can be seen there, and the source's own history says that what was read never stood there: its leader epoch ends before it.
    Disowned,
}

/// A look at a source partition, to judge a position in it.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// Where it was found; compared with [`Evidence::place`].
    pub place: Option<&'a str>,
    /// Its end: the offset of what comes next. `None` if it cannot be told without reading all of it (a compressed file).
    pub end: Option<u64>,
    /// What stands in the place of each of [`Evidence::witnesses`], in their order.
    pub seen: &'a [Seen],
    /// The greatest time of anything that stands at or before the position, whether or not a witness stands there. More than the newest witness has
    /// is the proof of another history. `None` where times don't ascend with offsets.
    pub newest_before: Option<i64>,
}

/// What a position is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What was read stands before it, in the same place: reading goes on.
    Same,
    /// What was read stands before it, in another place (renamed, copied, restored): reading goes on there.
    Moved,
    /// Something else stands before it: a gap.
    Other(Why),
    /// Nothing that was read can be seen any more, and nothing contradicts the position: it is accepted, and said once.
    CannotBeSeen,
}

/// Why something else stands before a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The partition ends before the position, or before something that stood there.
    Shorter {
        /// Where it ends.
        end: u64,
    },
    /// What stands there is not what was read.
    Differs {
        /// First offset of what differs.
        at: u64,
    },
    /// Nothing stands there any more, and by the source's history what was read never did.
    Disowned {
        /// Offset of what was read.
        at: u64,
    },
    /// Something older than the position is younger than all that was read.
    Younger,
}

/// Judges a position: `next` is the offset of what would be read next. Without evidence (a record of version 1) only the end can contradict.
pub fn judge(next: u64, evidence: Option<&Evidence>, look: &Look) -> Verdict {
    // A witness may stand behind the position, where the source keeps what is not read yet itself (the journal).
    let witnessed = evidence.iter().flat_map(|evidence| &evidence.witnesses).map(|witness| witness.to).max();
    let reached = witnessed.map_or(next, |witnessed| witnessed.max(next));
    if let Some(end) = look.end.filter(|end| *end < reached) {
        return Verdict::Other(Why::Shorter { end });
    }
    let Some(evidence) = evidence else { return Verdict::CannotBeSeen };
    let mut agrees = false;
    for (witness, seen) in evidence.witnesses.iter().zip(look.seen) {
        match witness.agrees(seen) {
            None if *seen == Seen::Disowned => return Verdict::Other(Why::Disowned { at: witness.from }),
            None => {}
            Some(true) => agrees = true,
            Some(false) => return Verdict::Other(Why::Differs { at: witness.from }),
        }
    }
    let newest_read = evidence.witnesses.iter().filter_map(|witness| witness.time).max();
    if newest_read.zip(look.newest_before).is_some_and(|(read, before)| before > read) {
        return Verdict::Other(Why::Younger);
    }
    match agrees {
        false => Verdict::CannotBeSeen,
        true if evidence.place.as_deref() == look.place => Verdict::Same,
        true => Verdict::Moved,
    }
}

impl fmt::Display for Why {
    /// Completes a sentence that begins with the partition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter { end } => write!(f, "ends at {end}, before the position"),
            Self::Differs { at } => write!(f, "holds something else at {at} than was read there"),
            Self::Disowned { at } => write!(f, "has a history in which nothing stood at {at}, where something was read"),
            Self::Younger => f.write_str("holds before the position what is younger than all that was read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn witness(at: u64, content: &[u8], time: i64) -> Witness {
        Witness { from: at, to: at + 1, time: Some(time), epoch: Some(3), mark: key().mark(&[content]) }
    }

    #[test]
    fn a_beginning_is_marked_in_one_pass_as_it_is_alone() {
        let bytes: Vec<u8> = (0..200).collect();
        let lengths = [0, 1, 1, 63, 64, 65, 200];
        let alone = lengths.map(|length| key().mark(&[&bytes[..length]]));
        assert_eq!(key().marks_of_beginnings(&bytes, &lengths), alone);
    }

    fn evidence() -> Evidence {
        let witnesses = vec![witness(8, b"eight", 800), witness(9, b"nine", 900)];
        Evidence { place: Some("here".into()), witnesses, ..Evidence::default() }
    }

    fn present(content: &[u8], time: i64) -> Seen {
        Seen::Present { mark: key().mark(&[content]), time: Some(time), epoch: Some(3) }
    }

    fn look<'a>(place: &'a str, end: u64, seen: &'a [Seen]) -> Look<'a> {
        Look { place: Some(place), end: Some(end), seen, newest_before: None }
    }

    #[test]
    fn a_mark_is_the_beginning_of_the_hmac_and_parts_are_one_text() {
        // printf 'abc' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
        let mark = key().mark(&[b"a", b"bc"]);
        assert_eq!(mark, key().mark(&[b"abc"]));
        assert_eq!(mark.to_string().parse(), Ok(mark));
        assert_ne!(mark, Key::new([8; 32]).mark(&[b"abc"]));
        assert_ne!(key().fingerprint(), Key::new([8; 32]).fingerprint());
        assert!("".parse::<Mark>().is_err() && "X".repeat(32).parse::<Mark>().is_err() && "é".repeat(16).parse::<Mark>().is_err());
    }

    #[test]
    fn the_same_content_goes_on_whether_or_not_its_place_is_the_same() {
        let seen = [present(b"eight", 800), present(b"nine", 900)];
        assert_eq!(judge(10, Some(&evidence()), &look("here", 10, &seen)), Verdict::Same);
        assert_eq!(judge(10, Some(&evidence()), &look("there", 99, &seen)), Verdict::Moved);
    }

    #[test]
    fn one_witness_that_can_be_seen_is_enough_and_none_is_told_apart_from_all() {
        assert_eq!(judge(10, Some(&evidence()), &look("here", 10, &[Seen::Gone, present(b"nine", 900)])), Verdict::Same);
        assert_eq!(judge(10, Some(&evidence()), &look("here", 10, &[Seen::Gone, Seen::Gone])), Verdict::CannotBeSeen);
    }

    #[test]
    fn other_content_another_time_another_epoch_or_an_earlier_end_contradicts() {
        let epoch = |epoch| Seen::Present { mark: key().mark(&[b"nine"]), time: Some(900), epoch };
        for (seen, end, why) in [
            ([present(b"eight", 800), present(b"other", 900)], 10, Why::Differs { at: 9 }),
            ([present(b"EIGHT", 800), present(b"nine", 900)], 10, Why::Differs { at: 8 }),
            ([Seen::Gone, present(b"nine", 901)], 10, Why::Differs { at: 9 }),
            ([Seen::Gone, epoch(Some(4))], 10, Why::Differs { at: 9 }),
            ([Seen::Gone, Seen::Disowned], 10, Why::Disowned { at: 9 }),
            ([present(b"eight", 800), present(b"nine", 900)], 9, Why::Shorter { end: 9 }),
        ] {
            assert_eq!(judge(10, Some(&evidence()), &look("here", end, &seen)), Verdict::Other(why), "{seen:?}");
        }
        // A broker that tells no epoch contradicts nothing.
        assert_eq!(judge(10, Some(&evidence()), &look("here", 10, &[Seen::Gone, epoch(None)])), Verdict::Same);
    }

    #[test]
    fn a_witness_behind_the_position_must_be_reached_by_the_end() {
        let seen = [present(b"eight", 800), present(b"nine", 900)];
        assert_eq!(judge(9, Some(&evidence()), &look("here", 10, &seen)), Verdict::Same);
        assert_eq!(judge(9, Some(&evidence()), &look("here", 9, &[seen[0], Seen::Gone])), Verdict::Other(Why::Shorter { end: 9 }));
    }

    #[test]
    fn something_before_the_position_that_is_younger_than_all_that_was_read_is_another_history() {
        let seen = [Seen::Gone, Seen::Gone];
        let mut look = look("here", 100, &seen);
        look.newest_before = Some(900);
        assert_eq!(judge(10, Some(&evidence()), &look), Verdict::CannotBeSeen);
        look.newest_before = Some(901);
        assert_eq!(judge(10, Some(&evidence()), &look), Verdict::Other(Why::Younger));
    }

    #[test]
    fn an_offset_without_evidence_is_contradicted_by_the_end_alone() {
        assert_eq!(judge(10, None, &look("here", 10, &[])), Verdict::CannotBeSeen);
        assert_eq!(judge(10, None, &look("here", 9, &[])), Verdict::Other(Why::Shorter { end: 9 }));
    }

    #[test]
    fn evidence_is_short_in_a_record_and_reads_back() {
        let text = serde_json::to_string(&evidence()).unwrap();
        assert!(text.starts_with(r#"{"place":"here","witnesses":[{"from":8,"to":9,"time":800,"epoch":3,"mark":""#), "{text}");
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence());
    }
}
