//! The disk, as far as the commit protocol sees it.

pub mod disk_state;
pub mod fs;
pub mod posix;
