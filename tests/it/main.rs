//! One test binary, one module a situation.

mod crash_points;
mod recovery;
mod script;
