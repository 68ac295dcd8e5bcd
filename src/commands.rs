//! The commands, one file each. The reading ones take no lock and run beside the service; the others take it, and leave a record that says who ran
//! them.

pub mod accept;
pub mod adopt;
pub mod check;
pub mod dead_letters;
pub mod demo;
pub mod expire;
pub mod health;
pub mod infer;
pub mod query;
pub mod repair;
pub mod run;
pub mod verify;
