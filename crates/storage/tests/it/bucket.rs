//! The protocol of a dataset in a bucket, on a bucket in memory: every request, and everything that can happen at it.
//!
//! Owns: the walk over the worlds that processes leave, its counts, and the situations that are told by name.
//! Does not own: the bucket (see `world`), what happens at a request (see `client`), the processes (see `life`), the judgement (see `oracle`).
//!
//! A *world* is a bucket with the scratch of a host. To a process that starts in it one thing happens: at each of its requests each [`Event`], or what it
//! finds is otherwise than it was left ([`Start`]), on the host of that scratch or on another. That leaves a world, which is judged, and in which another
//! process starts, and so on, three deep (in the third only crashes and stops at changes). Worlds that are the same in essence are one. A process to which nothing happens must end well in all of them.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use pintail_core::error::ErrorKind;
use pintail_storage::blob::Blob;
use pintail_storage::checkpoint::record::CommitRecord;

mod client;
mod life;
mod mutants;
mod oracle;
mod situations;
mod world;

use client::{Client, Event};
use life::{End, Host, Plan, STARTS, Start, Wrap, run};
use oracle::{chain, check, essence, is_lost};
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

/// What happens in the recovery from a recovery, where a request changes something.
const CHANGED_THEN: [Event; 2] = [Event::CrashAfter, Event::Stopped];

/// What happens at one that only looks. A crash there is one after the change before.
const LOOKED: [Event; 2] = [Event::NotDone, Event::Stopped];

/// Processes one after another to each of which something happens: a commit, the recovery from it, and the recovery from that.
const DEPTH: usize = 3;

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Worlds that differ in essence.
    worlds: usize,
    /// Worlds with a plan of what happens in each: starts that were run and judged.
    states: usize,
    /// Of these, starts that were refused because an upload had expired and nobody had its bytes.
    refused: usize,
}

impl Counts {
    fn add(&mut self, left: &Left) {
        self.states += 1;
        self.refused += usize::from(matches!(left.end, End::Failed(ErrorKind::State, _)));
    }
}

/// The bucket as it is.
fn plain(client: Client) -> Arc<dyn Blob> {
    Arc::new(client)
}

/// What a plan leaves.
struct Left {
    world: World,
    chain: Vec<CommitRecord>,
    end: End,
    asked: Vec<Request>,
}

/// Runs a plan in a world, and judges what it leaves.
fn try_plan(world: &World, plan: Plan, wrap: Wrap) -> Checked<Left> {
    let (after, end, asked) = run(world.clone(), plan, wrap);
    if let Some(broken) = &after.broken {
        return Err(broken.clone());
    }
    let chain = chain(&after)?;
    let happened = plan.event.map(|(_, event)| event);
    let may_be_lost = || plan.start == Start::Expired || happened == Some(Event::Expired) || is_lost(world, plan.host);
    match &end {
        End::Finished | End::Killed => {}
        End::Failed(ErrorKind::TryAgain, _) if happened == Some(Event::Stopped) => {}
        // A completion that was still under way may come when the process has ended.
        End::Failed(ErrorKind::State, _) if may_be_lost() && (world.late.is_some() || is_lost(&after, plan.host)) => {}
        End::Failed(kind, why) => return Err(format!("it ended with {kind:?}: {why}")),
    }
    check(&after, &chain, end == End::Finished)?;
    Ok(Left { world: after, chain, end, asked })
}

/// Returns what may happen to a process which sends these requests, `before` others to which something has happened.
fn plans(host: Host, asked: &[Request], before: usize) -> Vec<Plan> {
    let mut plans: Vec<Plan> = STARTS.iter().map(|start| Plan { start: *start, host, event: None }).collect();
    for (at, request) in asked.iter().enumerate() {
        let events = match (before, request.is_change()) {
            (0 | 1, true) => [&CHANGED[..], &[Event::Expired]].concat(),
            (0 | 1, false) => [&LOOKED[..], &[Event::Expired]].concat(),
            (_, true) => CHANGED_THEN.to_vec(),
            (_, false) => Vec::new(),
        };
        plans.extend(events.into_iter().map(|event| Plan { start: Start::AsItWas, host, event: Some((at, event)) }));
    }
    plans
}

/// Walks from an empty bucket, `depth` processes one after another to each of which something happens. In whatever is left then one more starts, to
/// which nothing does.
fn walk(provider: Provider, depth: usize, wrap: Wrap) -> Checked<Counts> {
    let mut counts = Counts::default();
    let empty = World::new(provider);
    let mut known = HashSet::from([essence(&empty, &[])]);
    let mut worlds = VecDeque::from([(empty, Vec::new())]);
    while let Some((world, story)) = worlds.pop_front() {
        counts.worlds += 1;
        for host in [Host::Same, Host::Another] {
            let told = |plan: Plan, why: String| format!("{provider:?}, after {story:?}, then {plan:?}: {why}");
            let calm = try_plan(&world, Plan::calm(host), wrap).map_err(|why| told(Plan::calm(host), why))?;
            if story.len() == depth {
                counts.add(&calm);
                continue;
            }
            for plan in plans(host, &calm.asked, story.len()) {
                let left = try_plan(&world, plan, wrap).map_err(|why| told(plan, why))?;
                counts.add(&left);
                if known.insert(essence(&left.world, &left.chain)) {
                    worlds.push_back((left.world, story.iter().copied().chain([plan]).collect::<Vec<_>>()));
                }
            }
        }
    }
    Ok(counts)
}

#[test]
fn whatever_happens_at_any_request_nothing_is_lost_doubled_or_torn_and_the_next_start_goes_on() {
    let begin = Instant::now();
    let walks: Vec<_> = PROVIDERS.map(|provider| std::thread::spawn(move || walk(provider, DEPTH, plain))).into();
    let counts: Vec<_> = walks.into_iter().map(|walk| walk.join().unwrap().unwrap()).collect();
    let total = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    writeln!(
        std::io::stderr(),
        "bucket: {} states ({} worlds, each with everything that may happen to the next process, {DEPTH} deep, and one more start); {} of them refused \
         because nobody had the bytes; {:.1?}",
        total(|counts| counts.states),
        total(|counts| counts.worlds),
        total(|counts| counts.refused),
        begin.elapsed()
    )
    .unwrap();
    assert!(total(|counts| counts.states) >= 100_000, "{counts:?}");
}
