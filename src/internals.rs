//! What the program's own tests and benchmarks reach into. Nobody else should: none of it is promised.

pub use crate::admin::Admin;
pub use crate::commands::{health, verify};
pub use crate::logging::init as log_to;
pub use crate::meters::Meters;
pub use crate::pipeline::dataset::{Opened, Plan, Start};
pub use crate::pipeline::{Input, Line, Outside, deadline};
pub use crate::signals::{Early, install as handle_signals};
pub use crate::stages::transform::{Outcome, Transform};
