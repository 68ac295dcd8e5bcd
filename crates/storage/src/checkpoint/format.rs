//! FORMAT: what a dataset is, for as long as it exists.
//!
//! Owns: the content, and the refusal when a configuration asks for something else.
//! Does not own: making the file (see `store`), the schema of the output, which may grow (see `record`).

use chrono::{DateTime, SubsecRound, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::identity::SourceIdentity;
use pintail_core::invocation::forgotten;
use serde::{Deserialize, Serialize};

use super::sealed::{self, rfc3339};

/// The version that this Pintail writes and reads.
const VERSION: u32 = 1;

/// What may never change in a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The version of everything below `_pintail/`.
    version: u32,
    /// 128 random bits in hexadecimal: tells a dataset from another at the same path.
    pub dataset_id: String,
    /// When it was made, in whole milliseconds.
    #[serde(with = "rfc3339")]
    pub created_at: DateTime<Utc>,
    /// Where its records come from, as far as that makes offsets comparable.
    pub source: SourceIdentity,
    /// The columns that are directories, outermost first.
    pub partition_by: Vec<PartitionColumn>,
    /// Instances that it was made for, each with a chain of records of its own. Take-overs change their number (see [`super::take_over`]).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub instances: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

/// A column that is a directory. Readers guess its type from the paths, and wrongly: `007` becomes 7.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionColumn {
    /// The name in the SQL's output and in the path.
    pub name: String,
    /// The type, as the engine names it.
    #[serde(rename = "type")]
    pub data_type: String,
}

impl Format {
    /// Describes a new dataset, made `now`.
    pub fn new(now: DateTime<Utc>, source: impl FnOnce(DateTime<Utc>) -> SourceIdentity, partition_by: Vec<PartitionColumn>) -> Self {
        let created_at = now.trunc_subsecs(3);
        let dataset_id = format!("{:032x}", rand::random::<u128>());
        Self { version: VERSION, dataset_id, created_at, source: source(created_at), partition_by, instances: 1 }
    }

    /// Makes it one for several instances.
    pub fn for_instances(self, instances: u32) -> Self {
        Self { instances, ..self }
    }

    /// Writes it as bytes. Returns them with their checksum, which the first commit record names.
    pub fn encode(&self) -> (Vec<u8>, String) {
        sealed::seal(self)
    }

    /// Reads the bytes of FORMAT. Returns it with its checksum.
    ///
    /// # Errors
    /// Says in words what is wrong with the bytes; the caller names the file.
    pub fn parse(bytes: &[u8]) -> Result<(Self, String), String> {
        let (format, sha256) = sealed::unseal::<Self>(bytes)?;
        if format.version != VERSION {
            return Err(format!("it has version {}, this pintail reads version {VERSION}: use the pintail that wrote it", format.version));
        }
        Ok((format, sha256))
    }

    /// Checks that a configuration reads the source of this dataset.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`], naming both values and the way out.
    pub fn check_source(&self, out: &str, source: &SourceIdentity) -> Result<()> {
        let refuse = |what: &str, was: String, is: String| {
            Err(Error::config(format!(
                "`{out}` was made with {what} {was}, the configuration asks for {is}: set another `pipeline.out_path`, or go back to {was}"
            )))
        };
        if self.source.kind != source.kind {
            return refuse("the source", format!("`{}`", self.source.kind), format!("`{}`{}", source.kind, forgotten("source.type")));
        }
        let names = self.source.properties.keys().chain(source.properties.keys());
        for name in names {
            let (was, is) = (self.source.properties.get(name), source.properties.get(name));
            if was != is {
                return refuse(&format!("the source's {name}"), value(was), value(is));
            }
        }
        Ok(())
    }

    /// Checks that a configuration asks for the partition columns of this dataset.
    ///
    /// # Errors
    /// As [`Self::check_source`].
    pub fn check_partitions(&self, out: &str, partition_by: &[PartitionColumn]) -> Result<()> {
        if self.partition_by == partition_by {
            return Ok(());
        }
        let (was, is) = (columns(&self.partition_by), columns(partition_by));
        Err(Error::config(format!(
            "the rows of `{out}` are partitioned by {was}, and the configuration partitions by {is}: {}, or set another `pipeline.out_path`, for a \
             dataset of its own",
            self.way_back(partition_by)
        )))
    }
    /// Says what gives the partition columns of this dataset again.
    fn way_back(&self, asked: &[PartitionColumn]) -> String {
        let names = |columns: &[PartitionColumn]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        if names(&self.partition_by) != names(asked) {
            return format!("set `sink.partition_by = {:?}` again", names(&self.partition_by));
        }
        let differing = self.partition_by.iter().zip(asked).filter(|(was, is)| was != is);
        let casts = differing.map(|(PartitionColumn { name, data_type }, _)| format!("`CAST({name} AS {data_type}) AS {name}`"));
        format!("write {} in the SQL", casts.collect::<Vec<_>>().join(", "))
    }
}

fn value(value: Option<&String>) -> String {
    value.map_or_else(|| "none".into(), |value| format!("`{value}`"))
}

fn columns(columns: &[PartitionColumn]) -> String {
    let columns: Vec<_> = columns.iter().map(|column| format!("`{} {}`", column.name, column.data_type)).collect();
    if columns.is_empty() { "no column".to_owned() } else { columns.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: &str, seed: &str) -> SourceIdentity {
        SourceIdentity { kind: kind.into(), properties: [("seed".to_owned(), seed.to_owned())].into() }
    }

    fn region() -> Vec<PartitionColumn> {
        vec![PartitionColumn { name: "region".into(), data_type: "VARCHAR".into() }]
    }

    fn format() -> Format {
        let now = DateTime::from_timestamp(1_767_225_600, 123_456_789).unwrap();
        Format::new(now, |_| source("simulator", "42"), region())
    }

    #[test]
    fn a_format_reads_back_as_it_was_and_two_are_never_the_same() {
        let (bytes, sha256) = format().encode();
        let (read, read_sha256) = Format::parse(&bytes).unwrap();
        assert_eq!(read.encode().0, bytes);
        assert_eq!((read.created_at.to_rfc3339(), read_sha256), ("2026-01-01T00:00:00.123+00:00".into(), sha256));
        assert_ne!(format().dataset_id, read.dataset_id);
    }

    #[test]
    fn the_source_is_told_the_time_that_the_format_keeps() {
        let now = DateTime::from_timestamp(1_767_225_600, 123_456_789).unwrap();
        let source = |time: DateTime<Utc>| source("simulator", &time.to_rfc3339());
        let format = Format::new(now, source, region());
        assert_eq!(format.source, source(format.created_at));
    }

    #[test]
    fn another_source_seed_or_partition_is_refused_by_name_with_both_values_and_the_way_out() {
        let refusal = |source: SourceIdentity, partition_by: &[PartitionColumn]| {
            let checked = format().check_source("out", &source).and_then(|()| format().check_partitions("out", partition_by));
            let error = checked.unwrap_err();
            assert_eq!(error.kind(), pintail_core::error::ErrorKind::Config);
            error.to_string()
        };
        let mut day = region();
        day[0].data_type = "BIGINT".into();
        let cases = [
            (refusal(source("file", "42"), &region()), ["the source", "`simulator`", "`file`"]),
            (refusal(source("simulator", "43"), &region()), ["source's seed", "`42`", "`43`"]),
            (
                refusal(source("simulator", "42"), &day),
                ["`region VARCHAR`", "`region BIGINT`", "write `CAST(region AS VARCHAR) AS region`"],
            ),
            (refusal(source("simulator", "42"), &[]), ["`region VARCHAR`", "by no column", "`sink.partition_by = [\"region\"]`"]),
        ];
        for (message, needles) in cases {
            for needle in needles.into_iter().chain(["`out`", "`pipeline.out_path`"]) {
                assert!(message.contains(needle), "{needle} is not in: {message}");
            }
        }
        format().check_source("out", &source("simulator", "42")).unwrap();
        format().check_partitions("out", &region()).unwrap();
    }

    #[test]
    fn a_newer_version_is_refused() {
        let newer = Format { version: 2, ..format() };
        assert!(Format::parse(&newer.encode().0).unwrap_err().contains("version 2"));
    }
}
