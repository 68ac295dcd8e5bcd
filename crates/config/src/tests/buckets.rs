use super::*;

#[test]
fn a_url_as_out_path_is_a_bucket_with_a_scratch_of_its_own() {
    let config = load(&[], &["pipeline.out_path=s3://lake/events/", "storage.region=eu-central-1", "storage.scratch=/scratch"]).unwrap();
    assert!(config.is_in_bucket());
    assert_eq!(config.paths().format(), Path::new("s3://lake/events/_pintail/FORMAT"));
    assert_eq!(config.pipeline.checkpoint_interval, Duration::from_secs(60), "requests cost money");
    let other = load(&[], &["pipeline.out_path=s3://lake/events2", "storage.scratch=/scratch"]).unwrap();
    assert!(config.local_paths().root().starts_with("/scratch") && config.local_paths() != other.local_paths());
}

#[test]
fn a_path_is_a_directory_also_when_it_is_written_as_a_url() {
    let config = load(&[], &["pipeline.out_path=file:///var/lake"]).unwrap();
    assert!(!config.is_in_bucket());
    assert_eq!((config.pipeline.out_path.as_path(), config.local_paths()), (Path::new("/var/lake"), config.paths()));
    assert_fault(&["pipeline.out_path=file://var/lake"], "\"file:///\"");
}

#[test]
fn a_url_that_is_none_of_a_bucket_is_one_fault_and_its_storage_is_not_judged() {
    let found = faults(load(&[], &["pipeline.out_path=s3a://lake/x", "storage.region=eu"]));
    assert!(found.contains("`pipeline.out_path` = \"s3a://lake/x\"") && found.contains("\"s3://\""), "{found}");
    assert!(!found.contains("storage.region"), "{found}");
}

#[test]
fn keys_of_storage_without_a_bucket_are_refused() {
    assert_fault(&["storage.region=eu"], "of use only where `pipeline.out_path` is a bucket");
}

#[test]
fn events_over_http_to_a_bucket_want_a_place_for_their_journal() {
    let sets = ["source.type=http", "pipeline.out_path=s3://lake/x"];
    assert_fault(&sets, "`source.journal_path`: missing");
    for way in ["source.journal_path=/var/journal", "source.ephemeral=true"] {
        load(&[], &[sets[0], sets[1], way]).unwrap();
    }
    load(&[], &["source.type=http"]).unwrap();
}

#[test]
fn what_works_on_a_disk_only_is_refused_for_a_bucket() {
    let bucket = "pipeline.out_path=s3://lake/x";
    assert_fault(&[bucket, "admin.query=true"], "`admin.query`: queries over HTTP read a dataset on a disk");
    let shared = ["source.type=kafka", "source.brokers=b:9092", "source.topics=t", "source.instance.count=2", "source.instance.index=0"];
    assert_fault(&[&shared[..], &[bucket]].concat(), "`source.instance`: several instances share a dataset on a disk only");
}
