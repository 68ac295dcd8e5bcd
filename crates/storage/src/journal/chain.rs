//! Chain: which segments of a journal count. Pure.
//!
//! Owns: following them from the newest on, each naming the one before it. One whose number lies between two that follow each other was replaced.
//! Does not own: reading headers (see `facts`), what is in the segments (see `scan`).

use std::collections::{BTreeMap, VecDeque};

use pintail_core::error::{Error, Result};

use super::Settings;
use super::scan::Link;
use super::segment::{self, Header, untrusted};

/// Follows the segments from the newest on, each naming the one before it. Returns them oldest first.
///
/// # Errors
/// `State` if one is missing or too short, or has a header that cannot be trusted; what the disk refused of a header that counts.
pub(super) fn chain(settings: &Settings, files: &BTreeMap<u64, u64>, mut headers: BTreeMap<u64, Result<Header>>) -> Result<VecDeque<Link>> {
    let mut links = VecDeque::new();
    let Some((newest, bytes)) = files.last_key_value() else { return Ok(links) };
    let (mut number, mut end) = (*newest, *bytes);
    loop {
        let bytes = files[&number];
        let header = headers.remove(&number).expect("each segment has a header, or what is wrong with it")?;
        let previous = header.previous;
        links.push_front(Link { header, end, bytes, newest: number == *newest });
        let Some(previous) = previous else { break };
        if previous.segment >= number {
            return Err(refuse(settings, number, &format!("it follows segment {}, which is not before it", previous.segment)));
        }
        match files.get(&previous.segment) {
            Some(bytes) if *bytes < previous.bytes => {
                let why = format!("it has {bytes} bytes, {} were accepted", previous.bytes);
                return Err(refuse(settings, previous.segment, &why));
            }
            Some(_) => (number, end) = (previous.segment, previous.bytes),
            // Released. It went after everything older.
            None if files.range(..previous.segment).next().is_some() => {
                return Err(refuse(settings, previous.segment, "it is missing, and older ones are there"));
            }
            None => break,
        }
    }
    Ok(links)
}

fn refuse(settings: &Settings, number: u64, why: &str) -> Error {
    let path = segment::path(&settings.dir, number);
    untrusted(format_args!("journal segment `{}` cannot be trusted, at byte 0: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use pintail_core::error::ErrorKind;

    use super::super::running::Running;
    use super::super::segment::Previous;
    use super::super::tests::{DATASET, settings};
    use super::super::time::Stamp;
    use super::*;

    fn header(segment: u64, previous: Option<(u64, u64)>) -> Header {
        let previous = previous.map(|(segment, bytes)| Previous { segment, bytes });
        Header::new(DATASET, segment, 0, previous, Running::from(DATASET, 0), Stamp::default())
    }

    /// Follows segments of which all but these have no header: number, end, whether it is the newest.
    fn chained(files: &[(u64, u64)], headers: Vec<Header>) -> Result<Vec<(u64, u64, bool)>> {
        let unreadable = files.iter().map(|(number, _)| (*number, Err(untrusted("unreadable"))));
        let readable = headers.into_iter().map(|header| (header.segment, Ok(header)));
        let links = chain(&settings("/".as_ref()), &files.iter().copied().collect(), unreadable.chain(readable).collect())?;
        Ok(links.into_iter().map(|link| (link.header.segment, link.end, link.newest)).collect())
    }

    #[track_caller]
    fn refused(files: &[(u64, u64)], headers: Vec<Header>, part: &str) {
        let error = chained(files, headers).unwrap_err();
        assert!(error.kind() == ErrorKind::State && error.to_string().contains(part), "{error}");
    }

    #[test]
    fn the_segments_that_count_are_those_that_the_newest_leads_to() {
        assert_eq!(chained(&[], vec![]).unwrap(), []);
        // What was replaced may be unreadable; what was released was the oldest.
        let two = || vec![header(3, Some((1, 400))), header(5, Some((3, 400)))];
        assert_eq!(chained(&[(3, 450), (4, 9), (5, 500)], two()).unwrap(), [(3, 400, false), (5, 500, true)]);
        refused(&[(3, 399), (5, 500)], two(), "it has 399 bytes, 400 were accepted");
        refused(&[(0, 9), (3, 450), (5, 500)], two(), "it is missing, and older ones are there");
        refused(&[(3, 450), (5, 500)], vec![header(5, Some((3, 400)))], "unreadable");
        refused(&[(5, 500)], vec![header(5, Some((5, 400)))], "which is not before it");
    }
}
