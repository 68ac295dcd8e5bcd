//! The commands, one file each. The reading ones take no lock and run beside the service; `repair` takes it.

#[cfg(feature = "engine")]
pub mod check;
pub mod dead_letters;
pub mod health;
pub mod infer;
#[cfg(feature = "engine")]
pub mod query;
#[cfg(feature = "engine")]
pub mod repair;
#[cfg(feature = "engine")]
pub mod run;
pub mod verify;
