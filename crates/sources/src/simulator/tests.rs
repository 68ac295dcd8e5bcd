use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use pintail_core::error::ErrorKind;
use pintail_core::schema::EventSchema;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn start_time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

fn config(limit: u64, rate: u64) -> SimulatorConfig {
    SimulatorConfig { seed: 42, limit, rate, start_time: None }
}

fn committed(to: u64) -> Offsets {
    let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
    let mut offsets = Offsets::default();
    offsets.extend(&OffsetRange::new(partition, 0, to)).unwrap();
    offsets.committed()
}

async fn read_to_end(source: &mut Simulator) -> Vec<(RecordBatch, u64, u64)> {
    let mut chunks = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, source.read()).await.expect("nothing came").unwrap() {
        assert_eq!(chunk.unit, OffsetUnit::Records);
        let Records::Arrow(rows) = chunk.records else { panic!("not Arrow") };
        chunks.push((rows, chunk.range.from, chunk.range.to));
    }
    chunks
}

/// A digest that changes with any value of any column.
fn digest(rows: &RecordBatch) -> String {
    let mut hasher = Sha256::new();
    rows.column(0).as_primitive::<Int64Type>().values().iter().for_each(|time| hasher.update(time.to_le_bytes()));
    rows.column(1).as_primitive::<Int64Type>().values().iter().for_each(|user| hasher.update(user.to_le_bytes()));
    rows.column(2).as_dictionary::<Int32Type>().keys().values().iter().for_each(|region| hasher.update(region.to_le_bytes()));
    rows.column(3).as_primitive::<Float64Type>().values().iter().for_each(|amount| hasher.update(amount.to_le_bytes()));
    rows.column(4).as_string::<i32>().iter().for_each(|sku| hasher.update(sku.unwrap()));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_events_are_those_that_every_version_made() {
    let rows = events(42, start_time(), 4094..4098);
    assert_eq!(rows.schema(), EventSchema::simulator().arrow());
    let text = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap().to_string();
    assert_eq!(text, EXPECTED, "\n{text}");
    assert_eq!(digest(&events(42, start_time(), 0..20_000)), EXPECTED_DIGEST);
}

/// Computed apart from this code, from the published definitions of xoshiro256++ and SplitMix64.
const EXPECTED: &str = "\
+---------------+---------+--------+--------------------+-----------+
| timestamp     | user_id | region | amount             | sku       |
+---------------+---------+--------+--------------------+-----------+
| 1767225600081 | 573643  | us     | 5.9015849759952115 | SKU-01815 |
| 1767225600081 | 744838  | africa | 4.296170328306415  | SKU-04330 |
| 1767225600081 | 808785  | africa | 62.66795300748848  | SKU-04409 |
| 1767225600081 | 428516  | apac   | 90.3021339570697   | SKU-02016 |
+---------------+---------+--------+--------------------+-----------+";
const EXPECTED_DIGEST: &str = "6a24dbb2774b884798a316afea343b5a3b30a09b01d5f20f480a33d9cc9854b7";

#[test]
fn an_event_is_the_same_in_whatever_range_it_is_asked() {
    let whole = events(7, start_time(), 0..20_000);
    for (from, to) in [(0, 1), (1, 4096), (4095, 4097), (4096, 8192), (5000, 19_999), (19_999, 20_000), (300, 300)] {
        let part = events(7, start_time(), from..to);
        assert_eq!(part, whole.slice(from as usize, (to - from) as usize), "{from}..{to}");
    }
}

#[test]
fn another_seed_makes_other_events_and_another_start_time_only_other_times() {
    let (rows, other_seed) = (events(1, start_time(), 0..100), events(2, start_time(), 0..100));
    assert!((1..5).all(|column| rows.column(column) != other_seed.column(column)));
    let later = events(1, start_time() + chrono::TimeDelta::seconds(1), 0..100);
    assert_ne!(rows.column(0), later.column(0));
    assert!((1..5).all(|column| rows.column(column) == later.column(column)));
}

#[test]
fn values_are_uniform_over_their_whole_range_and_not_repeated_by_blocks() {
    let rows = events(42, start_time(), 0..500_000);
    let time = rows.column(0).as_primitive::<Int64Type>().values();
    assert_eq!((time[0], time[49], time[50], time[499_999]), (1_767_225_600_000, 1_767_225_600_000, 1_767_225_600_001, 1_767_225_609_999));
    let users = rows.column(1).as_primitive::<Int64Type>().values();
    assert!(users.iter().all(|user| (1..=1_000_000).contains(user)));
    let amounts = rows.column(3).as_primitive::<Float64Type>().values();
    assert!(amounts.iter().all(|amount| (0.0..100.0).contains(amount)));
    let mean = amounts.iter().sum::<f64>() / amounts.len() as f64;
    assert!((mean - 50.0).abs() < 0.2, "mean amount {mean}");
    let mut regions = [0; 5];
    rows.column(2).as_dictionary::<Int32Type>().keys().values().iter().for_each(|&region| regions[region as usize] += 1);
    assert!(regions.iter().all(|&n| (98_500..101_500).contains(&n)), "{regions:?}");
    let mut skus: Vec<_> = rows.column(4).as_string::<i32>().iter().flatten().collect();
    skus.sort_unstable();
    skus.dedup();
    assert_eq!((skus.len(), skus[0], skus[4999]), (5000, "SKU-00000", "SKU-04999"));
    let mut bits: Vec<u64> = amounts.iter().map(|amount| amount.to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    assert_eq!(bits.len(), 500_000, "two blocks share numbers");
}

#[tokio::test]
async fn chunks_are_aligned_blocks_and_end_at_the_limit() {
    let mut source = Simulator::open(&config(2500, 0), start_time(), 1000, &Offsets::default()).unwrap();
    assert_eq!(source.remaining(), Some(2500));
    let chunks = read_to_end(&mut source).await;
    assert_eq!(chunks.iter().map(|(_, from, to)| (*from, *to)).collect::<Vec<_>>(), [(0, 1000), (1000, 2000), (2000, 2500)]);
    assert_eq!(source.remaining(), Some(0));
}

#[tokio::test]
async fn a_resume_anywhere_makes_the_rest_of_the_same_events_in_the_same_blocks() {
    let mut source = Simulator::open(&config(10_000, 0), start_time(), 1000, &committed(4321)).unwrap();
    let chunks = read_to_end(&mut source).await;
    assert_eq!((chunks[0].1, chunks[0].2), (4321, 5000));
    let schema = EventSchema::simulator().arrow();
    let rows = concat_batches(&schema, chunks.iter().map(|(rows, ..)| rows)).unwrap();
    assert_eq!(rows, events(42, start_time(), 4321..10_000));
}

#[tokio::test]
async fn a_finished_dataset_ends_at_once_and_one_past_its_limit_is_refused() {
    let mut source = Simulator::open(&config(10, 1), start_time(), 1000, &committed(10)).unwrap();
    assert!(timeout(PATIENCE, source.read()).await.unwrap().unwrap().is_none());
    let error = Simulator::open(&config(9, 1), start_time(), 1000, &committed(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_limited_rate_gives_small_portions_in_time() {
    let start = Instant::now();
    let mut source = Simulator::open(&config(3000, 10_000), start_time(), 50_000, &Offsets::default()).unwrap();
    let chunks = read_to_end(&mut source).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(295), "3,000 events at 10,000/s took {took:?}");
    assert!(took < Duration::from_secs(5), "3,000 events at 10,000/s took {took:?}");
    assert!(chunks.len() >= 3, "{} portions", chunks.len());
    let schema = EventSchema::simulator().arrow();
    let rows = concat_batches(&schema, chunks.iter().map(|(rows, ..)| rows)).unwrap();
    assert_eq!(rows, events(42, start_time(), 0..3000));
}

#[tokio::test]
async fn an_endless_dataset_knows_no_rest() {
    let mut source = Simulator::open(&config(0, 0), start_time(), 10, &Offsets::default()).unwrap();
    for _ in 0..100 {
        assert!(source.read().await.unwrap().is_some());
    }
    assert_eq!(source.remaining(), None);
}

#[test]
fn the_identity_tells_seed_and_start_time() {
    let identity = config(0, 0).identity(start_time());
    assert_eq!(identity.kind, "simulator");
    assert_eq!(identity.properties["seed"], "42");
    assert_eq!(identity.properties["start_time"], "2026-01-01T00:00:00Z");
    let configured = SimulatorConfig { start_time: Some(start_time()), ..config(0, 0) };
    assert_eq!(configured.identity(Utc::now()), identity);
}
