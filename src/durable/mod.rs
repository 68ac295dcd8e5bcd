//! The disk, as far as the commit protocol sees it.

pub mod fs;
pub mod posix;
