//! The commands, one file each. The reading ones take no lock and run beside the service.

pub mod check;
pub mod dead_letters;
pub mod health;
pub mod infer;
pub mod query;
pub mod run;
pub mod verify;
