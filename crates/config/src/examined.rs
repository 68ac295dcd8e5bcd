//! Examined: a configuration that is looked at although parts of it may be faulty.
//!
//! Owns: what of it may be relied on.
//! Does not own: reading it, the faults themselves (see `reader`).

use std::collections::{BTreeMap, BTreeSet};

use pintail_core::error::Error;

use super::{Config, refusal};

/// What was found of a configuration.
#[derive(Debug)]
pub struct Examined {
    /// The configuration, with defaults for what is faulty; `None` where not even those make sense.
    pub(super) config: Option<Config>,
    /// Every fault, in the order of reading.
    pub(super) faults: Vec<String>,
    /// Sections with a fault.
    pub(super) faulty: BTreeSet<String>,
    /// What each key is set to that was given, and where.
    pub(super) given: BTreeMap<String, String>,
}

impl Examined {
    /// Returns the configuration, if all of these sections are sound.
    pub fn sound(&self, sections: &[&str]) -> Option<&Config> {
        self.config.as_ref().filter(|_| !sections.iter().any(|section| self.faulty.contains(*section)))
    }

    /// Says what a key is set to, and where that was typed; of a secret, only whether there is one. `None` if it was not given, or is faulty.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    /// Returns all faults as [`Config::load`] tells them; `None` if there is none.
    pub fn refusal(&self) -> Option<Error> {
        (!self.faults.is_empty()).then(|| refusal(&self.faults))
    }
}
