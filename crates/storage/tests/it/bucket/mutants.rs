//! The protocol over a bucket that does one thing wrongly, or that somebody else has a hand in: every such mutant must be caught.
//!
//! Owns: the mutants that the trait `Blob` can express, each with the reason why it must be caught.
//! Does not own: what catches them (see [`super::walk`]), a changed order and a check left out (see `tests/proof/mutants`).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pintail_core::error::ErrorKind;
use pintail_storage::blob::{Answer, Blob, Meta, Object, ObjectKey, Page, PartTag, Reach, UploadId};
use pintail_storage::checkpoint::paths::{Paths, sequence_of};

use super::client::{Client, Event};
use super::life::{End, Host, Plan};
use super::world::{Provider, Request, World};
use super::{plain, try_plan, walk};

/// What is done otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// A creation replaces what is there.
    CreationReplaces,
    /// A creation that meets something is told that it was done.
    CreationIsBelieved,
    /// The record before is deleted once the next one is there.
    RecordBeforeIsDeleted,
    /// A start removes all that is staged below the name of the dataset, whoever staged it.
    StagingIsRemovedByName,
    /// A completion that fails is told that it was done.
    CompletionIsBelieved,
}

/// The bucket of one process, with a mutation.
#[derive(Debug)]
struct Mutant {
    client: Client,
    mutation: Mutation,
}

impl Blob for Mutant {
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Option<Object>> {
        if self.mutation == Mutation::StagingIsRemovedByName && key.as_str().ends_with("FORMAT") {
            self.client.world().expire();
        }
        self.client.get(key, range)
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Option<Meta>> {
        self.client.head(key)
    }

    fn put_if_absent<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        match self.mutation {
            Mutation::CreationReplaces => self.client.replace(key, bytes),
            Mutation::CreationIsBelieved => Box::pin(async move { self.client.put_if_absent(key, bytes).await.or(Ok(())) }),
            Mutation::RecordBeforeIsDeleted => Box::pin(async move {
                let created = self.client.put_if_absent(key, bytes).await;
                let before = sequence_of(Path::new(key.as_str())).map(|sequence| Paths::new("").record(sequence - 1));
                if let Some(before) = before.filter(|_| created.is_ok()) {
                    self.client.world().remove(before.to_str().unwrap());
                }
                created
            }),
            _ => self.client.put_if_absent(key, bytes),
        }
    }

    fn replace<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        self.client.replace(key, bytes)
    }

    fn create_upload<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, UploadId> {
        self.client.create_upload(key)
    }

    fn put_part<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, index: usize, bytes: Bytes) -> Answer<'a, PartTag> {
        self.client.put_part(key, upload, index, bytes)
    }

    fn complete<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, ()> {
        match self.mutation {
            Mutation::CompletionIsBelieved => Box::pin(async move { self.client.complete(key, upload, parts).await.or(Ok(())) }),
            _ => self.client.complete(key, upload, parts),
        }
    }

    fn list(&self, at_most: usize) -> Answer<'_, Vec<ObjectKey>> {
        self.client.list(at_most)
    }

    fn abort<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId) -> Answer<'a, ()> {
        self.client.abort(key, upload)
    }

    fn page<'a>(&'a self, dir: &'a str, reach: Reach, page: Option<String>) -> Answer<'a, Page> {
        self.client.page(dir, reach, page)
    }
}

/// Returns what the walk finds wrong with a mutant, where something happens to two processes one after another.
fn caught(wrap: super::Wrap) -> String {
    let found: Vec<String> = [Provider::Aws, Provider::Azure].into_iter().filter_map(|provider| walk(provider, 2, wrap).err()).collect();
    assert!(!found.is_empty(), "it survives");
    found.join("\n")
}

fn mutant(client: Client, mutation: Mutation) -> Arc<dyn Blob> {
    Arc::new(Mutant { client, mutation })
}

#[test]
fn a_record_that_is_put_without_its_condition_replaces_that_of_another() {
    let found = caught(|client| mutant(client, Mutation::CreationReplaces));
    assert!(found.contains("was there, and holds something else now"), "{found}");
}

#[test]
fn a_creation_that_is_believed_whatever_it_met_makes_two_owners() {
    caught(|client| mutant(client, Mutation::CreationIsBelieved));
}

#[test]
fn a_deleted_record_opens_the_fence_to_whoever_was_stopped_before_it() {
    let empty = World::new(Provider::Aws);
    let asked = try_plan(&empty, Plan::calm(Host::Same), plain).unwrap().asked;
    let is_checkpoint = |request: &Request| matches!(request, Request::PutIfAbsent(key, _) if key.ends_with("0000000002.json"));
    let at = asked.iter().position(is_checkpoint).unwrap();
    let stopped = Plan { event: Some((at, Event::Stopped)), ..Plan::calm(Host::Another) };
    let end = try_plan(&empty, stopped, plain).unwrap().end;
    assert!(matches!(end, End::Failed(ErrorKind::TryAgain, _)), "{end:?}");
    let found = try_plan(&empty, stopped, |client| mutant(client, Mutation::RecordBeforeIsDeleted)).err().unwrap();
    assert!(found.contains("a process that was fenced changed what lasts"), "{found}");
}

#[test]
fn a_start_that_removes_what_is_staged_by_name_loses_what_is_committed() {
    let found = caught(|client| mutant(client, Mutation::StagingIsRemovedByName));
    assert!(found.contains("is committed and cannot publish"), "{found}");
}

#[test]
fn a_completion_that_is_believed_leaves_a_file_invisible_for_ever() {
    caught(|client| mutant(client, Mutation::CompletionIsBelieved));
}

#[test]
fn the_protocol_as_it_is_passes_what_the_mutants_are_tried_with() {
    walk(Provider::Aws, 2, plain).unwrap();
}
