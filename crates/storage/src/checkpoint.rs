//! Checkpoints: what is committed, and how.
//!
//! Reading order: [`paths`] and [`sealed`] (names and bytes), [`mod@format`] and [`record`] (what they say), [`state`] and
//! [`snapshot`] (what they add up to), [`staging`] and [`dead_letters`] (files before the commit), [`store`] (the commit, and the fence at the
//! start of a process), [`recovery`] (after a crash), [`take_over`] (another number of instances), [`relaid`] (other partition columns), [`visible`], [`reader`] and
//! [`nothing`] (everybody else), [`compaction`] (which files become fewer), [`held`] and [`attempts`] (what the line holds back, and starts that come to nothing), [`index`] (what spares them the records).

pub mod attempts;
pub mod columns;
pub mod compaction;
pub mod dead_letters;
pub mod directories;
pub mod format;
pub mod held;
pub mod index;
pub mod lock;
pub mod log;
pub mod mount;
pub mod nothing;
pub mod paths;
pub mod permission;
pub mod process;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod relaid;
pub mod sealed;
pub mod snapshot;
pub mod staging;
pub mod state;
pub mod store;
pub mod take_over;
pub mod visible;
