//! Two processes on one dataset without rows that ask for different partition columns, and no lock that works.
//!
//! The oracle: exactly one of them commits rows and ends well, and the dataset has the columns of that one, also after a power cut.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pintail_core::error::{ErrorKind, Result};
use pintail_storage::checkpoint::log;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::store::Store;
use pintail_storage::durable::fs::Fs;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::turns::{NONCES, Scheduled, Turn, Turns};
use super::{DRAWN, End, all, chain, commit};
use crate::model::{Model, Renames};
use crate::script::{Checked, named, open_by};
use crate::states::ROOT;

/// The columns that each process asks for. The dataset was made with those of the second.
const COLUMNS: [&[&str]; 2] = [&["shop"], &["region"]];

fn open(fs: Arc<dyn Fs>, nonce: &str, who: usize) -> Result<Store> {
    open_by(named(nonce), fs, Path::new(ROOT), 64, COLUMNS[who])
}

/// Lets both open the dataset and commit a checkpoint. Returns the disk and how each ended.
fn run(plan: &[Turn]) -> (Model, [End; 2]) {
    let model = Model::new().without_moments();
    drop(open(model.handle(), "0000000000000000", 1).unwrap());
    let turns = Turns::new(plan);
    let process = |who: usize| {
        let scheduled = Scheduled::over(&model, &turns, who);
        let result = open(Arc::new(scheduled.clone()), NONCES[who], who).and_then(|mut store| commit(&mut store, NONCES[who]));
        let (killed, done) = scheduled.end();
        End { result, killed, acknowledged: 0, done }
    };
    let ends = std::thread::scope(|scope| {
        let threads = [0, 1].map(|who| scope.spawn(move || process(who)));
        turns.begin();
        threads.map(|thread| thread.join().unwrap())
    });
    (model, ends)
}

/// Returns who wrote rows by the records.
fn writer(model: &Model) -> Checked<usize> {
    let chain = chain(model)?;
    let epochs = chain.iter().filter(|record| !record.files.is_empty()).map(|record| record.epoch);
    let opened = |epoch| chain.iter().find(|record| record.sequence == epoch).and_then(|record| record.opened.as_ref());
    let writers: BTreeSet<_> =
        epochs.map(|epoch| NONCES.iter().position(|nonce| opened(epoch).is_some_and(|by| by.nonce == *nonce))).collect();
    match writers.into_iter().collect::<Vec<_>>()[..] {
        [Some(who)] => Ok(who),
        ref others => Err(format!("rows are of {others:?}")),
    }
}

fn check(plan: &[Turn]) -> Checked<[usize; 2]> {
    let (model, ends) = run(plan);
    let who = writer(&model)?;
    match &ends[who].result {
        Err(error) if !ends[who].killed => return Err(format!("{who} committed rows and ended: {error}")),
        _ => {}
    }
    match &ends[1 - who].result {
        _ if ends[1 - who].killed => {}
        Ok(()) => return Err("both ended well".into()),
        Err(error) if matches!(error.kind(), ErrorKind::TryAgain | ErrorKind::Config | ErrorKind::Io) => {}
        Err(error) => return Err(format!("{} says {:?}: {error}", 1 - who, error.kind())),
    }
    let cut = Model::over(model.disk().barest_cut(), 0, Renames::Atomic).without_moments();
    // What a killed process has not made durable, nobody was told of.
    for disk in std::iter::once(model).chain((!ends[who].killed).then_some(cut)) {
        let format = log::format(&disk, &Paths::new(ROOT)).map_err(|error| error.to_string())?.ok_or("FORMAT is gone")?.0;
        let has: Vec<&str> = format.partition_by.iter().map(|column| column.name.as_str()).collect();
        if has != COLUMNS[who] {
            return Err(format!("the rows are by {:?}, and the dataset says {has:?}", COLUMNS[who]));
        }
        let refused = open(disk.handle(), "dddddddddddddddd", 1 - who).map(drop).map_err(|error| error.kind());
        if refused != Err(ErrorKind::Config) {
            return Err(format!("the columns of the other end in {refused:?}"));
        }
        open(disk.handle(), "cccccccccccccccc", who).map_err(|error| format!("no start is possible: {error}"))?;
    }
    Ok(ends.map(|end| end.done.len()))
}

#[test]
fn rows_lie_by_the_partition_columns_of_the_process_that_committed_them_wherever_another_was_stopped_or_killed() {
    let (begin, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
    let mut plans = Vec::new();
    for (stands, goes) in [(0, 1), (1, 0)] {
        let most = check(&[Turn::Run(stands, usize::MAX)]).unwrap()[stands];
        let up_to = check(&[Turn::Run(goes, usize::MAX)]).unwrap()[goes];
        let stood = |at, up_to| vec![Turn::Run(stands, at), Turn::Run(goes, up_to), Turn::Run(stands, usize::MAX)];
        plans.extend((0..=most).map(|at| stood(at, usize::MAX)));
        plans.extend((0..=most).map(|at| vec![Turn::Run(stands, at), Turn::Kill(stands)]));
        let drawn = if all() { 10 * DRAWN } else { 2 * DRAWN };
        plans.extend((0..drawn).map(|_| stood(random.random_range(0..=most), random.random_range(0..=up_to))));
    }
    let found: BTreeSet<String> = plans.iter().filter_map(|plan| check(plan).err().map(|why| format!("{why}: {plan:?}"))).collect();
    assert!(found.is_empty(), "{} of {}: {:#?}", found.len(), plans.len(), found.iter().take(5).collect::<Vec<_>>());
    writeln!(std::io::stderr(), "fence: {} schedules of two layouts; {:.1?}", plans.len(), begin.elapsed()).unwrap();
}
