//! Compaction: which files of which hive partition and hour become fewer, as a function without a disk.
//!
//! Owns: the choice, by what the records say of the files.
//! Does not own: merging their rows (see `pintail_sink::merge`), putting the result in their place (see [`super::store`]).
//!
//! An hour is taken once it is closed: rows of it may still come, and do, but few. A row is written anew twice at most: when its hour closes, and
//! once more if late rows made small files beside it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::index::Index;
use super::paths;
use super::record::FileKind;

/// How often a row is written anew, at most.
pub const GENERATIONS_MAX: u32 = 2;

/// A file that may be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its place below the dataset's directory.
    pub path: String,
    /// The record that names it.
    pub sequence: u64,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// How often a row in it was written anew, at most.
    pub generation: u32,
    /// The time of its newest row; that of its record if no row has one.
    pub newest: DateTime<Utc>,
}

/// What is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How large a file is to be. One that is not much smaller stays as it is.
    pub target_bytes: u64,
    /// Hours that have ended by then are closed.
    pub closed_by: DateTime<Utc>,
    /// The last record that names files: those stay as they are.
    pub last: u64,
    /// Files whose rows are all older than this may be gone.
    pub expired_before: Option<DateTime<Utc>>,
}

/// Files of one hive partition and hour that are to become fewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The hive partition's directory, below that of the dataset.
    pub dir: String,
    /// The hour, `YYYY-MM-DD-HH`.
    pub hour: String,
    /// The files, in the order of their records.
    pub files: Vec<Candidate>,
}

impl Job {
    /// Returns the generation of the files that it makes.
    pub fn generation(&self) -> u32 {
        self.files.iter().map(|file| file.generation).max().unwrap_or(0) + 1
    }

    /// Returns the rows of its files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Returns the bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the beginning of its hour.
    pub fn begin(&self) -> DateTime<Utc> {
        begin_of(&self.hour).unwrap_or_default()
    }
}

/// Returns the files of a chain that Pintail wrote, and that are not replaced, in the order of their records.
pub fn candidates(index: &Index) -> Vec<Candidate> {
    let replaced = index.replaced();
    let of_records = (1..).zip(&index.records).filter(|(_, record)| !record.adopted);
    let of_record = of_records.flat_map(|(sequence, record)| record.files.iter().map(move |file| (sequence, record, file)));
    let data = of_record.filter(|(_, _, file)| file.kind() == FileKind::Parquet && !replaced.contains(file));
    let candidate = |(sequence, record, file): (u64, &super::index::Indexed, &super::index::IndexedFile)| Candidate {
        path: index.path(file),
        sequence,
        rows: file.rows(),
        bytes: file.bytes(),
        generation: record.rewrite.as_ref().map_or(0, |rewrite| rewrite.generation),
        newest: file.newest().unwrap_or(record.time).into(),
    };
    data.map(candidate).collect()
}

/// Chooses what is to be rewritten, the oldest hours first.
pub fn plan(candidates: &[Candidate], rules: Rules) -> Vec<Job> {
    let mut jobs = BTreeMap::<(String, String), Vec<Candidate>>::new();
    for file in candidates.iter().filter(|file| is_to_go(file, rules)) {
        let Some((dir, name)) = file.path.rsplit_once('/') else { continue };
        let Some(hour) = paths::hour_of(name).filter(|hour| is_closed(hour, rules)) else { continue };
        jobs.entry((hour.to_owned(), dir.to_owned())).or_default().push(file.clone());
    }
    let jobs = jobs.into_iter().map(|((hour, dir), files)| Job { dir, hour, files });
    jobs.filter(|job| (job.bytes().div_ceil(rules.target_bytes.max(1)) as usize) < job.files.len()).collect()
}

fn is_to_go(file: &Candidate, rules: Rules) -> bool {
    let is_small = file.bytes < rules.target_bytes / 4 * 3;
    let may_be_gone = rules.expired_before.is_some_and(|before| file.newest < before);
    is_small && !may_be_gone && file.generation < GENERATIONS_MAX && file.sequence != rules.last
}

fn is_closed(hour: &str, rules: Rules) -> bool {
    begin_of(hour).is_some_and(|begin| begin + TimeDelta::hours(1) <= rules.closed_by)
}

fn begin_of(hour: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(&format!("{hour}-00"), "%Y-%m-%d-%H-%M").ok().map(|begin| begin.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn file(path: &str, sequence: u64, bytes: u64) -> Candidate {
        Candidate { path: path.into(), sequence, rows: 10, bytes, generation: 0, newest: at("2026-01-01T00:30:00Z") }
    }

    fn rules() -> Rules {
        Rules { target_bytes: 100, closed_by: at("2026-01-01T01:00:00Z"), last: 9, expired_before: None }
    }

    fn chosen(files: &[Candidate], rules: Rules) -> Vec<(String, Vec<u64>)> {
        let named = |job: Job| (format!("{} {}", job.dir, job.hour), job.files.iter().map(|file| file.sequence).collect());
        plan(files, rules).into_iter().map(named).collect()
    }

    #[test]
    fn small_files_of_one_hive_partition_and_hour_are_chosen_together_once_the_hour_is_closed() {
        let files = [
            file("region=us/events-2026-01-01-00-2.parquet", 2, 10),
            file("region=eu/events-2026-01-01-00-2.parquet", 2, 10),
            file("region=us/events-2026-01-01-00-3.parquet", 3, 10),
            file("region=us/events-2026-01-01-00-3-1.parquet", 3, 10),
            file("region=us/events-2026-01-01-01-3.parquet", 3, 10),
            file("region=us/events-2026-01-01-01-4.parquet", 4, 10),
        ];
        let us_at_0 = ("region=us 2026-01-01-00".to_owned(), vec![2, 3, 3]);
        assert_eq!(chosen(&files, rules()), std::slice::from_ref(&us_at_0));
        let closed_by = at("2026-01-01T02:00:00Z");
        assert_eq!(chosen(&files, Rules { closed_by, ..rules() }), [us_at_0, ("region=us 2026-01-01-01".into(), vec![3, 4])]);
        let closed_by = at("2026-01-01T00:59:59Z");
        assert_eq!(chosen(&files, Rules { closed_by, ..rules() }), []);
    }

    #[test]
    fn what_is_large_or_was_rewritten_twice_or_may_be_gone_or_is_of_the_last_checkpoint_or_another_name_stays() {
        let path = |sequence: u64| format!("region=us/events-2026-01-01-00-{sequence}.parquet");
        let of = |sequence| file(&path(sequence), sequence, 10);
        let one = of(2);
        let others = [
            Candidate { bytes: 75, ..of(3) },
            Candidate { generation: 2, ..of(3) },
            of(9),
            file("region=us/copied.parquet", 3, 10),
            file("events-2026-01-01-00-3.parquet", 3, 10),
        ];
        for other in others {
            assert_eq!(chosen(&[one.clone(), other.clone()], rules()), [], "{other:?}");
        }
        assert_eq!(chosen(&[one.clone(), of(3)], Rules { expired_before: Some(at("2026-01-01T00:31:00Z")), ..rules() }), []);
        let late = Candidate { generation: 1, bytes: 70, ..of(3) };
        let jobs = plan(&[one, late], rules());
        assert_eq!((jobs.len(), jobs[0].generation(), jobs[0].rows()), (1, 2, 20));
    }

    #[test]
    fn files_that_would_not_become_fewer_stay() {
        let files: Vec<_> = (2..4).map(|n| file(&format!("region=us/events-2026-01-01-00-{n}.parquet"), n, 70)).collect();
        assert_eq!(chosen(&files, rules()), []);
    }
}
