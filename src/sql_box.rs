//! The SQL box: one statement of somebody else, in a process of its own.
//!
//! Owns: what a statement may take of the machine, and that it takes nothing of the service beside it: the service runs itself again
//! (`/proc/self/exe`) as a child that answers one question and ends.
//! Does not own: who may ask (see `admin::sql`), the guard of the statement and of the files (see [`pintail_duckdb::query`]).
//!
//! DuckDB's own limits do not hold: it counts only the memory of its buffers, and looks at an interrupt only between vectors, so one
//! expression can take gigabytes or minutes. The kernel's do:
//!
//! | limit | kept by |
//! |---|---|
//! | time | the parent, which kills at the deadline; `RLIMIT_CPU` if the parent is held up |
//! | memory | `RLIMIT_DATA`; the parent, which looks at the resident memory every 10 ms and kills. If the machine runs out of it all the same, the kernel takes the child first (`oom_score_adj`) |
//! | bytes of the answer | the child, while it fetches and while it writes |
//! | a core that the line needs | one thread, and a priority below that of the line |
//! | files | none can be written (`RLIMIT_FSIZE`), no descriptor and no variable of the environment is inherited |
//! | life | the child dies with its parent (`PR_SET_PDEATHSIG`) |
//!
//! | file | holds |
//! |---|---|
//! | `parent` | starting the child, watching it, ending it |
//! | `child` | what runs in it |
//! | `values` | rows as JSON |

use std::borrow::Cow;
use std::path::Path;

use pintail_core::invocation::Options;
use pintail_storage::checkpoint::reader::Committed;
use serde::{Deserialize, Serialize};

mod child;
#[cfg(feature = "admin")]
mod parent;
mod values;

pub(crate) use child::run;
#[cfg(feature = "admin")]
pub(crate) use parent::{Failure, Limits, ask};

/// What the child is told, as JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Task<'a> {
    /// The process that waits for the answer.
    parent: i32,
    /// What its messages say of commands.
    options: Options,
    out: Cow<'a, Path>,
    committed: Cow<'a, Committed>,
    sql: Cow<'a, str>,
    rows_max: usize,
    bytes_max: usize,
    memory_limit: u64,
    /// Seconds of CPU time.
    cpu_seconds: u64,
    /// Time that was spent before the child was started.
    spent_ms: u64,
}
