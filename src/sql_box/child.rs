//! The child: answers one question and ends.
//!
//! Owns: giving up what it does not need before it looks at the statement.
//! Does not own: the watch over it (see `parent`).

#![allow(unsafe_code, reason = "inherited descriptors have no owner in this process")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::{limits, sql_type};
use pintail_duckdb::query::{Answer, Limits, query_within, too_many_bytes};
use pintail_duckdb::shown;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use serde_json::{Value, json};

use super::{Task, values};
use crate::child;

/// Stack of the query's thread. DuckDB's parser and planner go down by recursion: this is room for the deepest statement that a request can hold.
/// What is not used costs nothing.
const STACK_BYTES: usize = 256 << 20;
/// Memory beside DuckDB's own limit: the plan, the batch that is being fetched, the text of the answer.
const MARGIN_BYTES: u64 = 64 << 20;
/// Bytes of a reason: it may quote a value of any length.
const REASON_BYTES_MAX: usize = 4_096;
/// A priority below that of the line. Not the lowest: on two cores with twelve threads at work, the tenth of a second of CPU time that a small query
/// needs took a second with 0, 5 with 5, and 40 with 19.
const NICE: i32 = 2;

/// Reads the task from standard input, writes the answer or the reason to standard output, and returns the exit code: 0 for an answer, else that of
/// the error's kind.
pub(crate) fn run() -> u8 {
    close_inherited();
    let answered = task().and_then(|task| {
        let query = move || answer(&task, Instant::now());
        let thread = thread::Builder::new().name("pintail-sql".to_owned()).stack_size(STACK_BYTES).spawn(query);
        let thread = thread.map_err(|e| Error::io("start a thread for the query", e))?;
        thread.join().unwrap_or_else(|_| Err(Error::internal("the query panicked")))
    });
    let (code, text) = match answered {
        Ok(answer) => (0, answer),
        Err(error) => (error.kind().exit_code(), reason(&error).into_bytes()),
    };
    let mut out = io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ErrorKind::Io.exit_code(),
    }
}

/// Closes every descriptor but the three of the standard streams: a lock that the service's own parent handed down, a socket of a library.
fn close_inherited() {
    let Ok(listed) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // SAFETY: this is the first thing that the process does, so nothing in it owns a descriptor yet. The one of the listing is closed
        // already, and closing it again only fails.
        unsafe { rustix::io::close(descriptor) };
    }
}

/// Takes the lowest place, then the task.
fn task() -> Result<Task<'static>> {
    // A thread has the priority of the one that started it. Both are wishes: a system that grants none of them has the limits left.
    let _ = setpriority_process(None, NICE);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text).map_err(|e| Error::io("read the question", e))?;
    let task: Task<'static> = serde_json::from_slice(&text).map_err(|e| Error::internal("the question is unreadable").with_source(e))?;
    child::die_with(task.parent)?;
    task.options.clone().set();
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Cpu, task.cpu_seconds)?;
    Ok(task)
}

fn limit(resource: Resource, to: u64) -> Result<()> {
    let most = getrlimit(resource).maximum.map_or(to, |most| most.min(to));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|e| Error::io("limit what a query may take", e.into()))
}

/// Returns the answer as JSON.
fn answer(task: &Task<'_>, begun: Instant) -> Result<Vec<u8>> {
    // What is mapped already is the program's, the allocator's and this stack.
    let mapped = limits::process_bytes("self", "VmData").ok_or_else(|| Error::internal("cannot read /proc/self/status"))?;
    limit(Resource::Data, mapped.saturating_add(task.memory_limit).saturating_add(MARGIN_BYTES))?;
    let limits = Limits { rows_max: task.rows_max, bytes_max: task.bytes_max, memory_limit: task.memory_limit };
    let answer = query_within(&limits, &task.out, &task.committed, &task.sql)?;
    render(&answer, task.bytes_max, begun, Duration::from_millis(task.spent_ms))
}

/// Writes an answer, row by row, until it has too many bytes.
fn render(answer: &Answer, bytes_max: usize, begun: Instant, spent: Duration) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("cannot write the answer as JSON: {e}"));
    let columns = answer.schema.fields().iter().map(|field| json!({ "name": field.name(), "type": sql_type::name(field.data_type()) }));
    let columns: Value = columns.collect();
    let mut text = format!("{{\"columns\":{columns},\"rows\":[").into_bytes();
    for batch in &answer.batches {
        let batch = &shown::batch(batch).map_err(|e| failed(&e))?;
        for row in 0..batch.num_rows() {
            if text.last() != Some(&b'[') {
                text.push(b',');
            }
            let row = values::row(batch, row).map_err(|e| failed(&e))?;
            serde_json::to_writer(&mut text, &row).map_err(|e| failed(&e))?;
            if text.len() > bytes_max {
                return Err(too_many_bytes(bytes_max));
            }
        }
    }
    let took_ms = (spent + begun.elapsed()).as_millis();
    write!(text, "],\"truncated\":{},\"took_ms\":{took_ms}}}", answer.truncated).map_err(|e| failed(&e))?;
    Ok(text)
}

fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push('…');
    }
    reason
}
