//! Situations: one module each. Most drive the real binary and read what it leaves with independent readers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests do to files what others do")]

mod admin;
mod avro;
mod backpressure;
mod book;
mod check;
mod common;
mod compact;
mod config;
mod dead_letters;
mod deadly;
mod demo;
mod end_to_end;
mod engine;
mod faults;
mod fixtures;
mod follow;
mod foreign_text;
mod hostile_partitions;
mod http;
mod idle;
mod init;
mod kafka;
mod kills;
#[cfg(feature = "bucket")]
mod lake;
mod ledger;
mod load;
mod logs;
mod lookups;
mod memory;
mod nats;
mod nothing_there;
mod operator;
mod own_source;
mod parts;
mod paused;
mod plan;
mod query_formats;
mod refusals;
mod relaid;
mod shutdown;
mod supervised;
mod tables;
mod unreadable;
mod upgrade;
mod ways_out;
