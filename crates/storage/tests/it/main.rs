//! The protocol of commits on a model of a disk: every crash, every order, every fault.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests do to files what others do")]

mod bucket;
mod crash_points;
mod fence;
mod journal;
mod model;
mod mutants;
mod recovery;
mod script;
mod sequences;
mod states;
