//! Verdicts: what an answer means, and what is to be done, as functions without a bucket.
//!
//! Owns: when a record counts as one's own, and when a file counts as published.
//! Does not own: asking (see `super::requests` and `super::publish`).

use crate::blob::Fault;

/// What became of an object that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is there, and it is the own one.
    Own,
    /// Another one is there: whoever wrote it was first.
    Anothers,
    /// Nothing is there. The same is to be sent again: it may still be under way.
    Again,
}

/// Judges a creation by what lies there, whatever the request was answered: a client that tries again on its own meets its own object, and says that
/// one exists; an answer that was lost may have been any.
///
/// An own record is told by all of its bytes: those of an open record have the nonce of the start, those of each later one the hash of the record
/// before and the number of that open record, which only one process has.
pub fn creation(own: &[u8], there: Option<&[u8]>) -> Creation {
    match there {
        None => Creation::Again,
        Some(there) if there == own => Creation::Own,
        Some(_) => Creation::Anothers,
    }
}

/// What became of the completion of an upload that a record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The file is visible.
    Done,
    /// It is to be completed again.
    Again,
    /// The upload is gone and the file is not there: it expired. What it held has to be uploaded anew.
    Anew,
    /// Something else has its name.
    Wrong,
    /// The provider does not do it, and what it said tells why.
    Refused,
}

/// Judges a completion that failed, by the length of what lies under the file's name. That name holds the instance and the sequence number of the
/// record, and only the process of that record completes an upload of it: what is there and has the length is the file.
pub fn publication(fault: &Fault, there: Option<u64>, bytes: u64) -> Publication {
    match (there, fault) {
        (Some(there), _) if there == bytes => Publication::Done,
        (Some(_), _) => Publication::Wrong,
        (None, Fault::UploadGone) => Publication::Anew,
        (None, Fault::Throttled(_) | Fault::Unknown(_)) => Publication::Again,
        (None, Fault::Refused(_) | Fault::Exists) => Publication::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_object_is_told_by_its_bytes_and_by_nothing_else() {
        assert_eq!(creation(b"mine", Some(b"mine")), Creation::Own);
        assert_eq!(creation(b"mine", Some(b"min")), Creation::Anothers);
        assert_eq!(creation(b"mine", None), Creation::Again);
    }

    #[test]
    fn a_file_that_is_there_with_its_length_is_published_whatever_the_provider_says() {
        for fault in [Fault::UploadGone, Fault::Unknown(String::new()), Fault::Throttled(None), Fault::Refused(String::new())] {
            assert_eq!(publication(&fault, Some(7), 7), Publication::Done);
            assert_eq!(publication(&fault, Some(6), 7), Publication::Wrong, "never completed over what is not its own");
        }
    }

    #[test]
    fn only_an_upload_that_is_surely_gone_is_uploaded_anew() {
        assert_eq!(publication(&Fault::UploadGone, None, 7), Publication::Anew);
        assert_eq!(publication(&Fault::Unknown(String::new()), None, 7), Publication::Again);
        assert_eq!(publication(&Fault::Throttled(None), None, 7), Publication::Again);
        assert_eq!(publication(&Fault::Refused(String::new()), None, 7), Publication::Refused);
    }
}
