//! The commands, one file each. The reading ones take no lock and run beside the service; the others take it, and leave a record that says who ran
//! them.

pub(crate) mod accept;
pub(crate) mod adopt;
pub(crate) mod check;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod expire;
pub mod health;
pub(crate) mod infer;
pub(crate) mod installed;
pub(crate) mod query;
pub(crate) mod repair;
pub(crate) mod run;
pub mod verify;
