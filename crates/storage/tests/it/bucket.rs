//! The protocol of a dataset in a bucket, on a bucket in memory: every request, and everything that can happen at it.
//!
//! Owns: the walk over the worlds that processes leave, its counts, and the situations that are told by name.
//! Does not own: the bucket (see `world`), what happens at a request (see `client`), the processes (see `life`), the judgement (see `oracle`).
//!
//! A *world* is a bucket with the scratch of a host. To a process that starts in it one thing happens: at each of its requests each [`Event`], or what it
//! finds is otherwise than it was left ([`Start`]), on the host of that scratch or on another. That leaves a world, which is judged, and in which another
//! process starts, and so on, until no start leaves a world that is new in essence. A process to which nothing happens must end well in all of them.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use pintail_core::error::ErrorKind;
use pintail_storage::blob::Blob;

mod client;
mod life;
mod mutants;
mod oracle;
mod situations;
mod world;

use client::{Client, Event};
use life::{End, Host, Plan, STARTS, Start, Wrap, run};
use oracle::{check, essence, is_lost};
use world::{PROVIDERS, Provider, Request, World};

use crate::script::Checked;

/// What happens at a request that changes something.
const CHANGED: [Event; 9] = [
    Event::CrashBefore,
    Event::CrashAfter,
    Event::AnswerLost,
    Event::DoneTwice,
    Event::NotDone,
    Event::HangBefore,
    Event::HangAfter,
    Event::Late,
    Event::Stopped,
];

/// What happens at one that only looks. A crash there is one after the change before.
const LOOKED: [Event; 2] = [Event::NotDone, Event::Stopped];

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Worlds that differ in essence.
    worlds: usize,
    /// Worlds with a plan of what happens in each: starts that were run and judged.
    states: usize,
    /// Of these, starts that were refused because an upload had expired and nobody had its bytes.
    refused: usize,
    /// The most processes one after another.
    deepest: usize,
}

/// The bucket as it is.
fn plain(client: Client) -> Arc<dyn Blob> {
    Arc::new(client)
}

/// Runs a plan in a world, and judges what it leaves. Returns that, and how the process ended.
fn try_plan(world: &World, plan: Plan, wrap: Wrap) -> Checked<(World, End, Vec<Request>)> {
    let (after, end, asked) = run(world.clone(), plan, wrap);
    check(&after, false)?;
    let may_be_fenced = matches!(plan.event, Some((_, Event::Stopped)));
    let may_expire = plan.start == Start::Expired || matches!(plan.event, Some((_, Event::Expired))) || is_lost(world, plan.host);
    match &end {
        End::Finished | End::Killed => {}
        End::Failed(ErrorKind::TryAgain, _) if may_be_fenced => {}
        End::Failed(ErrorKind::State, _) if may_expire && is_lost(&after, plan.host) => {}
        End::Failed(kind, why) => return Err(format!("it ended with {kind:?}: {why}")),
    }
    if end == End::Finished {
        check(&after, true)?;
    }
    Ok((after, end, asked))
}

/// Returns everything that may happen to a process which sends these requests.
fn plans(host: Host, asked: &[Request]) -> Vec<Plan> {
    let mut plans: Vec<Plan> = STARTS.iter().map(|start| Plan { start: *start, host, event: None }).collect();
    for (at, request) in asked.iter().enumerate() {
        let events: &[Event] = if request.is_change() { &CHANGED } else { &LOOKED };
        let events = events.iter().copied().chain([Event::Expired]);
        plans.extend(events.map(|event| Plan { start: Start::AsItWas, host, event: Some((at, event)) }));
    }
    plans
}

/// Walks from an empty bucket until no start leaves anything new, at most `depth` processes one after another.
fn walk(provider: Provider, depth: usize, wrap: Wrap) -> Checked<Counts> {
    let mut counts = Counts::default();
    let empty = World::new(provider);
    let mut known = HashSet::from([essence(&empty)]);
    let mut left = VecDeque::from([(empty, Vec::new())]);
    while let Some((world, story)) = left.pop_front() {
        counts.worlds += 1;
        counts.deepest = counts.deepest.max(story.len() + 1);
        for host in [Host::Same, Host::Another] {
            let told = |plan: Plan, why: String| format!("{provider:?}, after {story:?}, then {plan:?}: {why}");
            let (_, _, asked) = try_plan(&world, Plan::calm(host), wrap).map_err(|why| told(Plan::calm(host), why))?;
            for plan in plans(host, &asked) {
                let (after, end, _) = try_plan(&world, plan, wrap).map_err(|why| told(plan, why))?;
                counts.states += 1;
                counts.refused += usize::from(matches!(end, End::Failed(ErrorKind::State, _)));
                if story.len() + 1 < depth && known.insert(essence(&after)) {
                    left.push_back((after, story.iter().copied().chain([plan]).collect::<Vec<_>>()));
                }
            }
        }
    }
    Ok(counts)
}

#[test]
fn whatever_happens_at_any_request_nothing_is_lost_doubled_or_torn_and_the_next_start_goes_on() {
    let begin = Instant::now();
    let walks: Vec<_> = PROVIDERS
        .map(|provider| std::thread::spawn(move || walk(provider, std::env::var("DEPTH").map_or(2, |d| d.parse().unwrap()), plain)))
        .into();
    let counts: Vec<_> = walks.into_iter().map(|walk| walk.join().unwrap().unwrap()).collect();
    let total = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    writeln!(
        std::io::stderr(),
        "bucket: {} states ({} worlds, each with everything that may happen to the next process), up to {} processes one after another, {} refused \
         because nobody had the bytes; {:.1?}",
        total(|counts| counts.states),
        total(|counts| counts.worlds),
        counts.iter().map(|counts| counts.deepest).max().unwrap_or(0),
        total(|counts| counts.refused),
        begin.elapsed()
    )
    .unwrap();
    assert!(total(|counts| counts.states) >= 100_000, "{counts:?}");
}
