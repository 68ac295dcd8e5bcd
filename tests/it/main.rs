//! The binary seen from outside: one module a situation.

mod common;
mod dead_letters;
mod end_to_end;
mod follow;
mod hostile_partitions;
mod idle;
mod kills;
mod lookups;
mod refusals;
mod shutdown;
