//! Counts and sums by group: what the monitor shows.
//!
//! Owns: merging, so that partial figures from batches add up to exact ones.
//! Does not own: their computation (see `pintail::aggregate`) and how they are shown (see `pintail::terminal`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Count and sum of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total {
    /// Rows in the group.
    pub rows: u64,
    /// Rows whose value is not null.
    pub values: u64,
    /// Sum of the values.
    pub sum: f64,
}

impl Total {
    /// Returns the mean of the values; `None` if there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.values > 0).then(|| self.sum / self.values as f64)
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.values += other.values;
        self.sum += other.sum;
    }
}

/// Totals by group; the key `None` is the null group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    groups: BTreeMap<Option<String>, Total>,
    /// Groups beyond the limit, together.
    others: Total,
}

impl Totals {
    /// Adds to a group. A new group past `groups_max` is added to [`Self::others`]: a column of ids must not eat the memory.
    pub fn add(&mut self, group: Option<&str>, total: Total, groups_max: usize) {
        let key = group.map(str::to_owned);
        let room = self.groups.len() < groups_max;
        match self.groups.entry(key) {
            Entry::Occupied(known) => known.into_mut().add(&total),
            Entry::Vacant(vacant) if room => {
                vacant.insert(total);
            }
            Entry::Vacant(_) => self.others.add(&total),
        }
    }

    /// Adds all groups of `other`.
    pub fn merge(&mut self, other: &Self, groups_max: usize) {
        for (group, total) in &other.groups {
            self.add(group.as_deref(), *total, groups_max);
        }
        self.others.add(&other.others);
    }

    /// Returns the groups, the null group first, then in the order of their names.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (Option<&str>, &Total)> {
        self.groups.iter().map(|(name, total)| (name.as_deref(), total))
    }

    /// Returns the total of the groups beyond the limit.
    pub fn others(&self) -> &Total {
        &self.others
    }

    /// Returns the rows of all groups.
    pub fn rows(&self) -> u64 {
        self.groups.values().map(|total| total.rows).sum::<u64>() + self.others.rows
    }
}
