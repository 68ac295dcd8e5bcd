//! The commands, one file each.

pub mod dead_letters;
pub mod health;
pub mod verify;
