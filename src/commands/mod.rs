//! The commands, one file each. The reading ones take no lock and run beside the service; the others take it, and leave a record that says who ran
//! them.

#[cfg(feature = "engine")]
pub mod accept;
#[cfg(feature = "engine")]
pub mod adopt;
#[cfg(feature = "engine")]
pub mod check;
pub mod dead_letters;
#[cfg(feature = "engine")]
pub mod demo;
#[cfg(feature = "engine")]
pub mod expire;
pub mod health;
pub mod infer;
#[cfg(feature = "engine")]
pub mod query;
#[cfg(feature = "engine")]
pub mod repair;
#[cfg(feature = "engine")]
pub mod run;
pub mod verify;
