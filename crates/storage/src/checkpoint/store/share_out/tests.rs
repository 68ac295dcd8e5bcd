use pintail_core::offsets::{OffsetRange, Partition, PartitionId};

use super::*;
use crate::checkpoint::store::Draft;
use crate::durable::posix::Posix;
use crate::samples::{draft, expected, open};

/// Commits one more record of a partition.
fn read_one(store: &mut Store, id: &PartitionId) {
    let mut offsets = store.offsets().clone();
    let from = offsets.next_offset(id).unwrap_or(0);
    let partition = Arc::new(Partition { id: id.clone(), label: id.as_str().into() });
    offsets.extend(&OffsetRange::new(partition, from, from + 1)).unwrap();
    let (staging, draft) = (store.staging(), Draft { offsets, ..draft(store, vec![]) });
    store.commit(staging, draft).unwrap();
}

#[test]
fn a_partition_goes_on_in_the_chain_of_its_new_instance_at_each_start_and_replayed_dead_letters_stay() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(Posix::default());
    let (events, letters) = (PartitionId::new("events"), PartitionId::of_dead_letters(7));
    let mut store = open(dir.path()).unwrap();
    [&events, &events, &letters].into_iter().for_each(|id| read_one(&mut store, id));
    drop(store);

    // All is the second instance's now.
    let expected = Expected { sharing: Sharing { instances: 2, owns: &|instance, _, _| instance == 1 }, ..expected() };
    share_out(&fs, dir.path(), &expected).unwrap();
    let start = |instance| Store::open(fs.clone(), Paths::new(dir.path()).of_instance(instance), &expected).unwrap();
    let stands = |store: &Store| [&events, &letters].map(|id| store.offsets().next_offset(id));
    for to in 2..5 {
        assert_eq!(stands(&start(0)), [None, Some(1)]);
        let mut second = start(1);
        assert_eq!(stands(&second), [Some(to), None]);
        read_one(&mut second, &events);
    }
}
