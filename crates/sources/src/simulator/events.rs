//! What a simulated event is.
//!
//! Owns: the function from seed, start time and event number to the event; it is part of the format of every simulated dataset, and a
//! change of it would break the resume of those that exist.
//! Does not own: which events are asked for, and when.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Int32Type, SchemaRef};
use chrono::{DateTime, Utc};
use pintail_core::schema::EventSchema;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// Microseconds of event time between two events, whatever the rate.
pub const EVENT_DISTANCE_US: i64 = 20;

/// Events that share a generator: a resume in the middle of a block skips at most so many.
const SEED_BLOCK: u64 = 4096;

const USERS: u64 = 1_000_000;
const SKUS: u64 = 5000;
const REGIONS: [&str; 5] = ["us", "eu", "apac", "latam", "africa"];
const AMOUNT_MAX: f64 = 100.0;

/// `SKU-` and five digits.
const SKU_BYTES: usize = 9;

/// Makes the events of a range, in the schema of [`EventSchema::simulator`].
///
/// Event n is the same whatever range it is asked in, on every platform and with every version of `rand`: the generator is xoshiro256++,
/// named, and numbers become values here, by multiplication, not by the library's distributions, which may change.
///
/// # Panics
/// If the range runs backwards, or is longer than an Arrow array of text may be (238 million events).
pub fn events(seed: u64, start_time: DateTime<Utc>, range: Range<u64>) -> RecordBatch {
    assert!(range.start <= range.end, "a range of events runs backwards: {range:?}");
    let mut columns = Columns::with_capacity((range.end - range.start) as usize);
    let mut next = range.start;
    while next < range.end {
        let block = next / SEED_BLOCK;
        let block_end = (block * SEED_BLOCK).saturating_add(SEED_BLOCK).min(range.end);
        let mut draws = Draws::new(seed, block);
        draws.skip(next % SEED_BLOCK);
        columns.append(&mut draws, next..block_end, start_time.timestamp_micros());
        next = block_end;
    }
    columns.finish()
}

/// The random numbers of a block: three for each event.
struct Draws(Xoshiro256PlusPlus);

impl Draws {
    fn new(seed: u64, block: u64) -> Self {
        // Mixed, not added: the generator's seeding walks by a constant, and neighbouring blocks would share numbers.
        Self(Xoshiro256PlusPlus::seed_from_u64(mix(mix(seed) ^ block)))
    }

    fn skip(&mut self, events: u64) {
        for _ in 0..3 * events {
            self.0.next_u64();
        }
    }

    fn next(&mut self) -> [u64; 3] {
        [self.0.next_u64(), self.0.next_u64(), self.0.next_u64()]
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection, so two blocks of a seed never share a generator.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps 32 random bits onto `0..n`, evenly but for 2⁻³² n.
fn below(bits: u32, n: u64) -> u64 {
    (u64::from(bits) * n) >> 32
}

struct Columns {
    timestamp: Vec<i64>,
    user_id: Vec<i64>,
    region: Vec<i32>,
    amount: Vec<f64>,
    sku: Vec<u8>,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        Self {
            timestamp: Vec::with_capacity(rows),
            user_id: Vec::with_capacity(rows),
            region: Vec::with_capacity(rows),
            amount: Vec::with_capacity(rows),
            sku: Vec::with_capacity(rows * SKU_BYTES),
        }
    }

    fn append(&mut self, draws: &mut Draws, range: Range<u64>, start_us: i64) {
        for n in range {
            let [user, amount, kind] = draws.next();
            let time_us = start_us.saturating_add((n as i64).saturating_mul(EVENT_DISTANCE_US));
            self.timestamp.push(time_us.div_euclid(1000));
            self.user_id.push(1 + below((user >> 32) as u32, USERS) as i64);
            // The upper 53 bits are every multiple of 2⁻⁵³ in [0, 1) alike.
            self.amount.push((amount >> 11) as f64 * (1.0 / (1_u64 << 53) as f64) * AMOUNT_MAX);
            self.region.push(below((kind >> 32) as u32, REGIONS.len() as u64) as i32);
            self.sku.extend_from_slice(&sku(below(kind as u32, SKUS) as u32));
        }
    }

    fn finish(self) -> RecordBatch {
        thread_local! {
            // The five names are one array for all batches of a thread, not five allocations each.
            static SHARED: (SchemaRef, ArrayRef) =
                (EventSchema::simulator().arrow(), Arc::new(StringArray::from_iter_values(REGIONS)));
        }
        let (schema, regions) = SHARED.with(|(schema, regions)| (schema.clone(), regions.clone()));
        let rows = self.timestamp.len();
        let ends = (0..=rows).map(|row| i32::try_from(row * SKU_BYTES).expect("the text of a batch is below 2 GiB"));
        let ends = OffsetBuffer::new(ScalarBuffer::from_iter(ends));
        let sku = StringArray::new(ends, self.sku.into(), None);
        let region = DictionaryArray::<Int32Type>::new(Int32Array::from(self.region), regions);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.timestamp)),
            Arc::new(Int64Array::from(self.user_id)),
            Arc::new(region),
            Arc::new(Float64Array::from(self.amount)),
            Arc::new(sku),
        ];
        RecordBatch::try_new(schema, columns).expect("the columns are those of the schema")
    }
}

/// Writes `SKU-04711` without the formatting machinery: it would cost more than the rest of the event.
fn sku(number: u32) -> [u8; SKU_BYTES] {
    let digit = |place: u32| b'0' + (number / place % 10) as u8;
    [b'S', b'K', b'U', b'-', digit(10_000), digit(1000), digit(100), digit(10), digit(1)]
}
