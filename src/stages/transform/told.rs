//! Told: what is said once in the life of a process of records that are good, and whose rows are not all that somebody may expect.
//!
//! Owns: the words, and that each is said once, whichever worker finds it.
//! Does not own: finding it (see [`pintail_decode::Odd`]).

use std::sync::atomic::{AtomicBool, Ordering};

use pintail_decode::Odd;
use tracing::warn;

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    cut: AtomicBool,
    without_values: AtomicBool,
}

impl Told {
    /// Says what is odd and was not said yet.
    pub(super) fn tell(&self, odd: &Odd) {
        let is_first = |told: &AtomicBool| !told.swap(true, Ordering::Relaxed);
        if let Some(column) = odd.cut.as_ref().filter(|_| is_first(&self.cut)) {
            warn!(column, "digits behind the microsecond are cut: a column of type `text` keeps them; this is said once");
        }
        if odd.without_values > 0 && is_first(&self.without_values) {
            let records = odd.without_values;
            warn!(
                records,
                "a record with a value in none of the columns, as `{{}}`, is a row of nulls: a column with `required = true` makes a dead letter of \
                 it; this is said once"
            );
        }
    }
}
