//! `pipeline.memory_max`: what the line may hold in memory, and what follows from it.
//!
//! Owns: the key, its share of the memory limit, the share of open files in it, and what is left to the line beside request bodies.
//! Does not own: keeping to it (see [`pintail_core::memory`]).

use bytesize::ByteSize;
use pintail_core::limits::Limits;
use pintail_settings::Section;
use pintail_settings::bounds::{bounded, in_memory, sizes};

/// Of eight parts of the memory limit, those that the line may hold. Two more are DuckDB's; the rest is left to what no setting bounds: the program,
/// the allocator, what compression and sorting take for a moment.
const PARTS: u64 = 3;

/// The key, as it was typed or follows from the memory there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryMax {
    bytes: u64,
    given: bool,
}

impl MemoryMax {
    pub(super) fn read(section: &mut Section<'_>, limits: Limits) -> Self {
        let given = section.has("memory_max");
        // The open files' 128 MiB, and ten batches of 16 MiB with what decoding and the SQL make of them.
        let range = sizes(ByteSize::mib(8), ByteSize::tib(16));
        let part = |size: u64| limits.memory.map_or(size, |memory| size.min(memory / 8 * PARTS)).max(ByteSize::mib(8).as_u64());
        Self { bytes: bounded(section, "memory_max", ByteSize::gib(1), range, part), given }
    }

    /// Returns the limits that other sizes of the line follow: a value that was typed counts as the part of a machine that has no more.
    pub(super) fn within(self, limits: Limits) -> Limits {
        let whole = self.given.then_some(self.bytes / PARTS * 8);
        Limits { memory: limits.memory.into_iter().chain(whole).min(), ..limits }
    }

    /// Returns what is left to the line beside request bodies. A value that was not typed makes room for sizes that were.
    ///
    /// # Errors
    /// If the sizes that were typed do not fit into it.
    pub(super) fn of_line(self, buffer_bytes_max: usize, bodies_bytes_max: usize) -> Result<usize, String> {
        let bytes = in_memory(self.bytes);
        if !self.given {
            return Ok(bytes.saturating_sub(bodies_bytes_max).max(2 * buffer_bytes_max));
        }
        let left = bytes.checked_sub(bodies_bytes_max).filter(|left| *left >= buffer_bytes_max);
        left.ok_or_else(|| {
            let (buffer, bodies) = (ByteSize::b(buffer_bytes_max as u64), ByteSize::b(bodies_bytes_max as u64));
            format!("smaller than `sink.buffer_bytes_max` ({buffer}) and `source.bodies_bytes_max` ({bodies}) together: lower those, or raise it")
        })
    }
}
