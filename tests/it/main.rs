//! One test binary, one module a situation.

mod crash_points;
mod model;
mod recovery;
mod script;
