//! Check: whether what was read stands before a position, and where another history begins.
//!
//! Owns: asking the server what stands at a sequence, finding the messages that tell an older state that was restored.
//! Does not own: the judgement itself (see [`pintail_core::evidence`]), what a gap leads to (see `reader`).
//!
//! Messages are asked for by `STREAM.MSG.GET`, which every server knows and the stream's leader answers. A stream that was restored to an older
//! state gives the sequences behind it anew: at a witness another message stands. Where none can be seen (a work queue removes what is
//! acknowledged), a message before the newest witness that is younger than all that was read proves the same.
//!
//! The new history begins at the first message that is younger than the first witness it lost. That is exact unless the clock of the server was set
//! back by more than the time between that witness and the restore; where a message shows that, reading begins behind the last witness that
//! agrees, and what was read between is there twice.

use std::ops::Range;
use std::sync::Arc;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use futures_util::future::try_join_all;
use pintail_core::evidence::{Evidence, Key, Look, Seen, Verdict, Why, Witness, judge};
use serde::{Deserialize, Serialize};

use super::connect::{Connection, Failure};
use super::history::{DISTANCES, is_nothing, mark, nanoseconds, nothing};
use super::position::{Position, ShownStream};
use super::search::Search;

/// All subjects.
pub(super) const ANY: &str = ">";

/// A message in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    /// Server time, in nanoseconds since 1970.
    pub(super) time: Option<i64>,
    pub(super) subject: String,
    pub(super) payload: Vec<u8>,
    /// As they are stored, with the line that they begin with; empty if there are none.
    pub(super) headers: Vec<u8>,
}

impl Stored {
    /// Returns the witness of it.
    pub(super) fn witness(&self, key: &Key) -> Witness {
        let mark = mark(key, &self.subject, &self.payload);
        Witness { from: self.sequence, to: self.sequence + 1, time: self.time, epoch: None, mark }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_by_subj: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    message: AnswerMessage,
}

#[derive(Deserialize)]
struct AnswerMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

/// What a server can be asked about a stream.
pub(super) struct Messages<'a> {
    pub(super) connection: &'a Connection,
    pub(super) stream: &'a str,
}

impl Messages<'_> {
    /// Returns the message with this sequence; `None` if there is none.
    pub(super) async fn at(&self, sequence: u64) -> Result<Option<Stored>, Failure> {
        self.get(Request { seq: sequence, next_by_subj: None }).await
    }

    /// Returns the first message at or behind a sequence, of subjects that match; `None` if there is none.
    pub(super) async fn from(&self, sequence: u64, subject: &str) -> Result<Option<Stored>, Failure> {
        self.get(Request { seq: sequence, next_by_subj: Some(subject) }).await
    }

    /// Finds the first message in a range that is younger than `time`.
    async fn search(&self, range: Range<u64>, time: i64) -> Result<Search, Failure> {
        let mut search = Search::new(range, time);
        while let Some(sequence) = search.ask() {
            let found = self.from(sequence, ANY).await?;
            search.learn(found.map(|found| (found.sequence, found.time)));
        }
        Ok(search)
    }

    async fn get(&self, request: Request<'_>) -> Result<Option<Stored>, Failure> {
        let subject = format!("STREAM.MSG.GET.{}", self.stream);
        let failure = |reason: String| {
            let asked = format!("cannot look at sequence {} of the stream `{}`", request.seq, self.stream);
            Failure::Passing(self.connection.explain(format!("{asked} (`$JS.API.{subject}`): {reason}")))
        };
        let answer: Response<Answer> = match self.connection.jetstream().request(subject.clone(), &request).await {
            Ok(answer) => answer,
            Err(error) => return Err(failure(error.to_string())),
        };
        match answer {
            Response::Ok(answer) => answer.message.stored().map(Some).ok_or_else(|| failure("the answer cannot be understood".to_owned())),
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Response::Err { error } => Err(failure(error.to_string())),
        }
    }
}

impl AnswerMessage {
    fn stored(self) -> Option<Stored> {
        let time = DateTime::parse_from_rfc3339(&self.time).ok()?.timestamp_nanos_opt();
        let time = time.and_then(|time| nanoseconds(time.into()));
        let (payload, headers) = (STANDARD.decode(self.data).ok()?, STANDARD.decode(self.hdrs).ok()?);
        Some(Stored { sequence: self.seq, time, subject: self.subject, payload, headers })
    }
}

/// What a look at the server shows of a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// What was read stands there, as far as it can be seen.
    Same,
    /// Nothing that was read can be seen any more. The evidence that this is known.
    CannotBeSeen(Evidence),
    /// Another history.
    Other(Restored),
}

/// An older state of a stream, restored and maybe grown since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restored {
    /// What shows it.
    pub(super) why: Why,
    /// The last sequence at which a message that was read still stands; 0 without one.
    pub(super) common: u64,
    /// The sequence at which reading goes on.
    pub(super) next: u64,
    /// What tells that.
    pub(super) begins: Begins,
    /// What is known of the messages before.
    pub(super) evidence: Arc<Evidence>,
}

/// What tells where the unread part of a restored stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// The times of its messages.
    ByTime,
    /// Nothing: some may be read again.
    Somewhere,
    /// The stream is again what was read earlier, before another state was restored.
    Known,
}

/// Looks at what stands before the position `next`. Without evidence only the end of the stream can contradict.
pub(super) async fn check(
    messages: &Messages<'_>,
    observed: &ShownStream,
    next: u64,
    evidence: &Evidence,
    filter: Option<&str>,
    key: &Key,
) -> Result<Checked, Failure> {
    let stored = try_join_all(evidence.witnesses.iter().map(|witness| messages.at(witness.from))).await?;
    let pairs = evidence.witnesses.iter().zip(&stored);
    let seen: Vec<_> = pairs.map(|(witness, stored)| seen(witness, stored.as_ref(), observed, key)).collect();
    let agreement = Agreement::of(&evidence.witnesses, &seen);
    let newest_before = younger(messages, observed, evidence, &seen, &agreement, filter).await?;
    let look = Look { place: evidence.place.as_deref(), end: Some(observed.end()), seen: &seen, newest_before };
    Ok(match judge(next, Some(evidence), &look) {
        Verdict::Same | Verdict::Moved => Checked::Same,
        Verdict::CannotBeSeen if evidence.witnesses.iter().all(|witness| is_nothing(key, witness)) => Checked::Same,
        Verdict::CannotBeSeen => Checked::CannotBeSeen(removed(evidence, key)),
        Verdict::Other(why) => Checked::Other(restored(messages, observed, next, evidence, why, &agreement, key).await?),
    })
}

/// Returns what stands at the sequences at doubling distances before a position without evidence.
pub(super) async fn found(messages: &Messages<'_>, next: u64, key: &Key) -> Result<Evidence, Failure> {
    let sequences =
        DISTANCES.iter().rev().filter_map(|distance| next.checked_sub(distance.unsigned_abs()).filter(|sequence| *sequence > 0));
    let stored = try_join_all(sequences.map(|sequence| messages.at(sequence))).await?;
    Ok(Evidence { witnesses: stored.iter().flatten().map(|stored| stored.witness(key)).collect(), ..Evidence::default() })
}

/// Returns what the place of a witness shows.
fn seen(witness: &Witness, stored: Option<&Stored>, observed: &ShownStream, key: &Key) -> Seen {
    let same_time = |time: Option<i64>| witness.time.is_some() && witness.time == time;
    match stored {
        // The last message is gone, and the server still knows when it came.
        None if witness.from == observed.last && same_time(observed.last_time) && !is_nothing(key, witness) => {
            Seen::Present { mark: witness.mark, time: witness.time, epoch: None }
        }
        None => Seen::Gone,
        Some(stored) => {
            let returned = is_nothing(key, witness) && same_time(stored.time);
            let mark = if returned { witness.mark } else { stored.witness(key).mark };
            Seen::Present { mark, time: stored.time, epoch: None }
        }
    }
}

/// How far a stream is what was read.
#[derive(Debug, PartialEq, Eq)]
struct Agreement {
    /// The last sequence up to which it surely is: that of the last witness that agrees before one that does not. 0 without one.
    common: u64,
    /// The sequence of the first witness in whose place another message stands.
    differs: Option<u64>,
}

impl Agreement {
    fn of(witnesses: &[Witness], seen: &[Seen]) -> Self {
        let agreement: Vec<_> = witnesses.iter().zip(seen).map(|(witness, seen)| (witness.from, witness.agrees(seen))).collect();
        let differs = agreement.iter().find(|(_, agrees)| *agrees == Some(false)).map(|(from, _)| *from);
        let agreeing = agreement.iter().take_while(|(from, _)| differs.is_none_or(|differs| *from < differs));
        let common = agreeing.filter(|(_, agrees)| *agrees == Some(true)).map(|(from, _)| *from).last().unwrap_or(0);
        Self { common, differs }
    }
}

/// Returns the time of the last message before the newest witness, if that is gone and the message younger than all that was read: a message
/// of the subjects that are read must be among those. (Others may have come while the server's clock was ahead.)
async fn younger(
    messages: &Messages<'_>,
    observed: &ShownStream,
    evidence: &Evidence,
    seen: &[Seen],
    agreement: &Agreement,
    filter: Option<&str>,
) -> Result<Option<i64>, Failure> {
    let (Some(newest), Some(Seen::Gone)) = (evidence.witnesses.last(), seen.last()) else { return Ok(None) };
    let Some(read) = evidence.witnesses.iter().filter_map(|witness| witness.time).max() else { return Ok(None) };
    let range = observed.begin().max(agreement.common + 1)..newest.to.min(observed.end());
    let last = messages.search(range.clone(), i64::MAX).await?.last_time();
    if last <= Some(read) {
        return Ok(None);
    }
    let first = messages.search(range, read).await?.boundary();
    let ours = messages.from(first, filter.unwrap_or(ANY)).await?;
    Ok(last.filter(|_| ours.is_some_and(|ours| ours.sequence < newest.to)))
}

/// Finds where reading goes on in another history.
async fn restored(
    messages: &Messages<'_>,
    observed: &ShownStream,
    next: u64,
    evidence: &Evidence,
    why: Why,
    agreement: &Agreement,
    key: &Key,
) -> Result<Restored, Failure> {
    let Agreement { common, differs } = *agreement;
    // The new history begins before `end`; if nothing contradicts, at `end` at the latest.
    let end = differs.map_or(next, |differs| differs + 1).min(observed.end());
    let contradicted = differs.is_some() || why == Why::Younger;
    let begin = observed.begin().max(common + 1).min(end);
    let lost = evidence.witnesses.iter().find(|witness| witness.to >= end && witness.from > common && witness.time.is_some());
    let read = lost.and_then(|witness| witness.time).or_else(|| evidence.witnesses.iter().filter_map(|witness| witness.time).max());
    let first = match read {
        Some(read) => messages.search(begin..end, read).await?.boundary(),
        None => end,
    };
    // The message that contradicts is new, whatever its time: the clock cannot be relied on.
    let begins = if contradicted && first == end { Begins::Somewhere } else { Begins::ByTime };
    let next = if begins == Begins::ByTime { first } else { begin };
    let mut witnesses: Vec<_> = evidence.witnesses.iter().filter(|witness| witness.from <= common).copied().collect();
    if common + 1 < next {
        let before = messages.at(next - 1).await?;
        witnesses.push(before.map_or_else(|| nothing(key, next - 1, None), |before| before.witness(key)));
    }
    Ok(Restored { why, common, next, begins, evidence: Arc::new(Evidence { witnesses, ..Evidence::default() }) })
}

/// Whether the stream is one in which a position was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The last message that was read stands before it.
    Surely,
    /// That message is gone, and no other contradicts.
    Possibly,
    /// The stream ends before it, begins behind it, or holds something else.
    Not,
}

/// Looks whether the stream is one in which a position was reached.
pub(super) async fn standing(messages: &Messages<'_>, observed: &ShownStream, position: &Position, key: &Key) -> Result<Standing, Failure> {
    // What was not read of it would be gone, too.
    if observed.end() < position.next || observed.begin() > position.next {
        return Ok(Standing::Not);
    }
    let evidence = position.evidence.clone().unwrap_or_default();
    let stored = try_join_all(evidence.witnesses.iter().map(|witness| messages.at(witness.from))).await?;
    let pairs = evidence.witnesses.iter().zip(&stored);
    let agree: Vec<_> = pairs.map(|(witness, stored)| witness.agrees(&seen(witness, stored.as_ref(), observed, key))).collect();
    let last = evidence.witnesses.last().filter(|last| !is_nothing(key, last));
    Ok(match agree.last() {
        _ if agree.contains(&Some(false)) => Standing::Not,
        Some(Some(true)) if last.is_some() => Standing::Surely,
        _ => Standing::Possibly,
    })
}

/// Returns evidence of the same messages, all of which are gone.
fn removed(evidence: &Evidence, key: &Key) -> Evidence {
    let witnesses = evidence.witnesses.iter().map(|witness| nothing(key, witness.from, witness.time)).collect();
    Evidence { witnesses, ..evidence.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn stored(sequence: u64, payload: &str) -> Stored {
        Stored { sequence, time: Some(sequence as i64), subject: "events.eu".to_owned(), payload: payload.into(), headers: Vec::new() }
    }

    fn observed(last: u64, last_time: Option<i64>) -> ShownStream {
        ShownStream { created: DateTime::UNIX_EPOCH, first: 1, last, last_time }
    }

    #[test]
    fn a_message_agrees_with_its_witness_and_another_in_its_place_does_not() {
        let witness = stored(9, "nine").witness(&key());
        let agrees = |found: Option<Stored>| witness.agrees(&seen(&witness, found.as_ref(), &observed(20, None), &key()));
        assert_eq!(agrees(Some(stored(9, "nine"))), Some(true));
        assert_eq!(agrees(Some(stored(9, "other"))), Some(false));
        assert_eq!(agrees(Some(Stored { time: Some(10), ..stored(9, "nine") })), Some(false));
        assert_eq!(agrees(Some(Stored { subject: "events.us".to_owned(), ..stored(9, "nine") })), Some(false));
        assert_eq!(agrees(None), None);
    }

    #[test]
    fn the_last_message_is_known_by_its_time_although_it_is_gone() {
        let witness = stored(9, "nine").witness(&key());
        for (last, time, agrees) in [(9, Some(9), Some(true)), (9, Some(8), None), (9, None, None), (10, Some(9), None)] {
            assert_eq!(witness.agrees(&seen(&witness, None, &observed(last, time), &key())), agrees, "{last} {time:?}");
        }
    }

    #[test]
    fn where_nothing_stood_a_message_contradicts_unless_it_is_the_one_that_was_removed() {
        for (time, agrees) in [(Some(9), true), (Some(8), false), (None, false)] {
            let witness = nothing(&key(), 9, time);
            let seen = |found: Option<&Stored>| witness.agrees(&seen(&witness, found, &observed(9, Some(9)), &key()));
            assert_eq!(seen(Some(&stored(9, "nine"))), Some(agrees), "{time:?}");
            assert_eq!(seen(None), None, "{time:?}");
        }
    }

    #[test]
    fn a_stream_is_surely_what_was_read_up_to_the_last_witness_before_one_that_contradicts() {
        let witnesses: Vec<_> = [1, 2, 3, 4].map(|n| stored(n, "read").witness(&key())).into();
        let agreement = |found: [Option<&str>; 4]| {
            let stored = (1..).zip(found).map(|(n, payload)| payload.map(|payload| stored(n, payload)));
            let seen: Vec<_> =
                witnesses.iter().zip(stored).map(|(witness, stored)| seen(witness, stored.as_ref(), &observed(9, None), &key())).collect();
            let Agreement { common, differs } = Agreement::of(&witnesses, &seen);
            (common, differs)
        };
        let (read, other) = (Some("read"), Some("other"));
        assert_eq!(agreement([None; 4]), (0, None));
        assert_eq!(agreement([read, read, None, None]), (2, None));
        assert_eq!(agreement([read, None, read, other]), (3, Some(4)));
        assert_eq!(agreement([None, other, read, read]), (0, Some(2)));
        assert_eq!(agreement([read, other, None, other]), (1, Some(2)));
    }
}
