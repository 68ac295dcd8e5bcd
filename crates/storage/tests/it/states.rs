//! The states that a crash can leave, and what must hold in each.
//!
//! Owns: walking them without trying one twice, the oracle for a state, the counts.
//! Does not own: what a power cut leaves (see `model::cuts`), what the script writes (see `script`).

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use crate::model::cuts::Subsets;
use crate::model::disk::Disk;
use crate::model::{Model, Moment, Renames, Step};
use crate::script::{self, Checked};

/// Where the dataset lies.
pub(crate) const ROOT: &str = "/data/out";

/// What a crash left.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub disk: Disk,
    /// Checkpoints that were acknowledged: they must be there, and at most one more.
    pub acknowledged: u64,
    /// How it came to be.
    pub story: String,
}

/// By what two disks are one (see `model::identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Key,
    Essence,
}

/// Disks, each with the number of acknowledged checkpoints, in the order they became known.
#[derive(Debug, Default)]
struct Known(HashSet<(u64, u64)>, Vec<(u64, u64)>);

impl Known {
    /// Returns whether it is new.
    fn insert(&mut self, by: By, disk: &Disk, acknowledged: u64) -> bool {
        let key = match by {
            By::Key => disk.key(),
            By::Essence => disk.essence(Path::new(ROOT)),
        };
        let key = (key, acknowledged);
        let new = self.0.insert(key);
        if new {
            self.1.push(key);
        }
        new
    }

    fn mark(&self) -> usize {
        self.1.len()
    }

    fn forget_since(&mut self, mark: usize) {
        for key in self.1.drain(mark..) {
            self.0.remove(&key);
        }
    }
}

/// The states tried so far.
#[derive(Debug)]
pub(crate) struct States {
    renames: Renames,
    /// Tried: recovery leads to what must hold.
    tried: Known,
    /// Moments all of whose crashes were tried, or are about to be.
    crashed: Known,
    /// Recovered disks from which the script went on to its end, by essence.
    went_on: Known,
    /// Disks whose recoveries were crashed, by essence.
    deeper: Known,
    pub counts: Counts,
}

/// What was tried.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Moments at which a process or the machine died.
    pub crash_points: usize,
    /// Those of them where not every subset of the pending operations could be tried.
    pub sampled: usize,
    /// Kills and power cuts, each with its own subset.
    pub crashes: usize,
    /// Different disks that they left, each recovered from and held against the oracle.
    pub states: usize,
    /// The most operations that were pending at once.
    pub pending_max: usize,
    /// Of the states, those after one crash, two in a row, and so on; with each how many of them were crashed in their recovery again.
    pub levels: Vec<(usize, usize)>,
    /// Of the states, those after a crash in the run that goes on after a recovery.
    pub went_on: usize,
}

impl States {
    pub(crate) fn new(renames: Renames) -> Self {
        Self {
            renames,
            tried: Known::default(),
            crashed: Known::default(),
            went_on: Known::default(),
            deeper: Known::default(),
            counts: Counts::default(),
        }
    }

    /// Runs the script on an empty disk to its end. Returns every moment of it.
    pub(crate) fn script(&self) -> Vec<Moment> {
        let model = Model::over(Disk::new(), 0, self.renames);
        script::run(&model.handle(), Path::new(ROOT), &mut |checkpoints| model.announce(checkpoints)).unwrap();
        model.take_moments()
    }

    /// Tries all crashes within `moments`, all crashes within the recoveries from these, and so on, `depth` deep. Behind the first crash,
    /// disks of one essence are one.
    pub(crate) fn walk(&mut self, moments: &[Moment], story: &str, depth: usize) -> Checked<()> {
        let mut level = self.crashes(By::Key, moments, story);
        for crashes in 1..=depth {
            let (mut next, mut beside, mut deeper) = (Vec::new(), Vec::new(), 0);
            for state in &level {
                let (moments, went_on) = self.check(state)?;
                if crashes == depth || !self.deeper.insert(By::Essence, &state.disk, state.acknowledged) {
                    continue;
                }
                deeper += 1;
                next.append(&mut self.crashes(By::Essence, &moments, &state.story));
                // The run that goes on after a recovery may build on what that one left pending. After the first crash only: later ones
                // are about recovery.
                if crashes == 1 {
                    beside.push((moments.last().cloned(), went_on, &state.story));
                }
            }
            for (before, went_on, story) in beside {
                let moments: Vec<_> = before.into_iter().chain(went_on).collect();
                let states = self.crashes(By::Essence, &moments, story);
                self.counts.went_on += states.len();
                states.iter().try_for_each(|state| self.check(state).map(|_| ()))?;
            }
            self.counts.levels.push((level.len(), deeper));
            level = next;
        }
        Ok(())
    }

    /// Returns what a kill or a power cut at each of `moments` leaves, as far as it was not returned before.
    pub(crate) fn crashes(&mut self, by: By, moments: &[Moment], story: &str) -> Vec<State> {
        let mut states = Vec::new();
        let mut before = None;
        for moment in moments {
            let new = moment.new_after(before.replace(moment));
            if !self.crashed.insert(by, &moment.disk, moment.acknowledged) {
                continue;
            }
            let cuts = moment.disk.cuts(new);
            self.counts.crash_points += 1;
            self.counts.sampled += usize::from(!cuts.exhaustive);
            self.counts.crashes += 1 + cuts.disks.len();
            self.counts.pending_max = self.counts.pending_max.max(moment.disk.pending.len());
            for (disk, event) in
                std::iter::once((moment.disk.clone(), "kill")).chain(cuts.disks.into_iter().map(|disk| (disk, "power cut")))
            {
                if self.tried.insert(by, &disk, moment.acknowledged) {
                    let story = format!("{story}, {event} after {}", Done(moment));
                    states.push(State { disk, acknowledged: moment.acknowledged, story });
                }
            }
        }
        self.counts.states += states.len();
        states
    }

    /// Tries all crashes within `moments` that are not known to be harmless. Returns how many there were, all of them harmless: they are
    /// known from now on.
    pub(crate) fn judge(&mut self, moments: &[Moment], story: &str) -> Checked<usize> {
        let (tried, crashed, went_on) = (self.tried.mark(), self.crashed.mark(), self.went_on.mark());
        let states = self.crashes(By::Essence, moments, story);
        let judged = states.iter().try_for_each(|state| self.check(state).map(|_| ()));
        if judged.is_err() {
            self.tried.forget_since(tried);
            self.crashed.forget_since(crashed);
            self.went_on.forget_since(went_on);
        }
        judged.map(|()| states.len())
    }

    /// Holds a state against the oracle: nothing torn is visible, recovery keeps what was acknowledged, and at most the checkpoint that was
    /// being acknowledged beside it, exactly, and the script goes on from there to its end. Returns the moments of the recovery, and of going on if that was not done before.
    pub(crate) fn check(&mut self, state: &State) -> Checked<(Vec<Moment>, Vec<Moment>)> {
        let model = Model::over(state.disk.clone(), state.acknowledged, self.renames);
        self.check_in(&model).map_err(|why| format!("{}: {why}", state.story))
    }

    fn check_in(&mut self, model: &Model) -> Checked<(Vec<Moment>, Vec<Moment>)> {
        let (fs, root) = (model.handle(), Path::new(ROOT));
        let acknowledged = model.acknowledged();
        let seen = script::check_crashed(&*fs, root)?;
        script::check_acknowledged(&*fs, root, acknowledged)?;
        let store = script::open(fs.clone(), root).map_err(|error| format!("no start is possible: {error}"))?;
        let recovered = script::check_open(&store, &fs, root)?;
        if recovered != seen || !(acknowledged..=acknowledged + 1).contains(&recovered) {
            return Err(format!("{acknowledged} checkpoints were acknowledged, {seen} seen before recovery, {recovered} after it"));
        }
        model.announce(recovered);
        let recovery = model.take_moments();
        if !self.went_on.insert(By::Essence, &model.disk(), recovered) {
            return Ok((recovery, vec![]));
        }
        let went_on = script::go_on(store, &fs, root, &mut |checkpoints| model.announce(checkpoints));
        went_on.map_err(|error| format!("the script does not go on: {error}"))?;
        let moments = model.take_moments();
        match script::check_recovered(&fs, root)? {
            script::STEPS => Ok((recovery, moments)),
            end => Err(format!("the script ends after {end} steps")),
        }
    }
}

impl Moment {
    /// Returns which power cuts can leave what none could leave just `before`.
    fn new_after(&self, before: Option<&Self>) -> Subsets {
        match (before, &self.step) {
            (Some(before), Some((step, _))) if before.acknowledged == self.acknowledged => match step {
                // It only takes possibilities away.
                Step::Sync | Step::SyncFile | Step::SyncDir => Subsets::None,
                Step::Create | Step::Mkdir | Step::Rename | Step::Link | Step::Exchange | Step::Remove | Step::Rmdir => Subsets::WithLast,
                Step::Write => Subsets::All,
            },
            _ => Subsets::All,
        }
    }
}

/// What was done last.
struct Done<'a>(&'a Moment);

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.step {
            Some((step, path)) => write!(f, "{step:?} {}", path.display()),
            None => write!(f, "acknowledging {}", self.0.acknowledged),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states after {} crashes at {} moments; at most {} changes of names pending, every subset tried at {} of the moments",
            self.states,
            self.crashes,
            self.crash_points,
            self.pending_max,
            self.crash_points - self.sampled
        )?;
        let mut levels = self.levels.iter().enumerate();
        levels.try_for_each(|(level, (states, deeper))| {
            write!(f, "; {states} after crash {}, {deeper} recoveries of them crashed", level + 1)
        })?;
        write!(f, "; {} after a crash in a run that went on", self.went_on)
    }
}
