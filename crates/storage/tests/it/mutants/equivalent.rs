//! Mutants that nothing catches because nothing is wrong with them.
//!
//! Owns: the reasons. A kind of mutant that no line here covers must be caught, and a line that covers none is stale: both fail the test.
//!
//! What the order must be is only this: staged files, their names and all directories durable before the record has its name; the record
//! durable before a file is published; all files durable in their places before staging goes; its absence durable before the
//! checkpoint is acknowledged. Between two of these points the order is free, and an fsync that comes twice is needed once.

/// Patterns of kinds, and why it does not matter.
pub(super) const EQUIVALENT: &[(&str, &str)] = &[
    ("*: Skip * ./_pintail/probe*", "the probe asks whether the calls succeed; the file means nothing and each start removes it"),
    ("*: Swap */probe* / *", "as above"),
    ("*: Swap * / * ./_pintail/probe*", "as above"),
    (
        "*: Skip SyncDir ./",
        "a start fsyncs the root twice, for `_pintail` and for itself; as parent of new directories in a commit it is caught",
    ),
    ("*: Skip SyncDir ./_pintail", "what is pending there when FORMAT is durable is the probe's; before, the fsync for FORMAT covers it"),
    ("*: Skip SyncFile ./_pintail/commits/N/N.json", "the record's bytes were durable before it got its name"),
    ("recovery: Skip SyncDir ./_pintail/commits/N", "where it survives, only the temporary record is pending, which each start removes"),
    ("recovery: Skip SyncDir ./_pintail/staging", "where it survives, only staging without a record is pending, which each start removes"),
    ("*: Swap Create * / Write *", "the bytes come before the name; the file is not relied on before its fsync"),
    ("*: Swap Remove * / Remove *", "left-overs go in any order"),
    ("*: Swap Rename */events-N.parquet / Rename *", "the files of a checkpoint appear in any order"),
    ("recovery: Swap Rmdir * / SyncDir ./_pintail/staging", "where it survives, the staging has no record: each start removes it"),
    ("*: Swap SyncDir * / SyncDir *", "nothing happens between the two that could rely on the first alone"),
    ("*: Swap Sync* * / Sync* ./_pintail/commits/N*", "as above"),
    (
        "script: Swap Sync ./_pintail/staging/N-N/N.inprogress / *",
        "a staged file must be durable before the record, not before the next one",
    ),
    ("*: Swap SyncDir * / Create ./_pintail/commits/N/N.json.N.inprogress", "the record is not there before its rename"),
    ("*: Swap SyncDir ./_pintail/staging / Mkdir *", "all but the acknowledgement may come before it; where that does, it is caught"),
    ("recovery: Swap SyncDir ./_pintail/commits/N / R*", "where nothing is published between the two, the staging that goes has no record"),
    ("recovery: Swap SyncDir ./ / Rename *", "the directories below the root are made durable before the record is written"),
    ("recovery: Swap SyncDir ./region=* / Rename *", "as above"),
    (
        "*: Skip Create ./_pintail/*.N.inprogress",
        "where its rename finds nothing it is written again: another start may have taken it for a left-over",
    ),
    (
        "recovery: Skip Remove ./_pintail/*N.inprogress",
        "a left-over that stays is removed by the next start; in a staging directory that goes, at once",
    ),
    ("recovery: Skip Rmdir ./_pintail/staging/N-N", "where it survives, the staging has no record: each start removes it"),
    ("recovery: Skip Rename ./_pintail/commits/N/N.json", "where it survives, it is the open record of a start that commits nothing"),
    ("recovery: Swap Rename ./_pintail/commits/N/N.json / SyncDir ./_pintail/commits/N", "as above"),
    (
        "recovery: Skip * ./_pintail/snapshots/N.json*",
        "where it survives, a process that was killed had written it: the same state is the same bytes",
    ),
    ("*: Skip SyncFile ./_pintail/KEY", "its bytes were durable before it got its name"),
    ("*: Swap SyncDir ./_pintail / Mkdir *", "nothing relies on either before the record"),
    ("*: Swap SyncDir * / SyncFile *", "nothing happens between the two that could rely on the first alone"),
    ("*: Swap SyncFile * / SyncDir *", "as above"),
    ("*: Swap Rename ./_pintail/KEY / SyncDir ./_pintail", "a start fsyncs it once more, for a key that another has just made"),
    ("*: Swap Rename ./_pintail/FORMAT / SyncDir ./_pintail", "the fsync for KEY covers it, before the first record"),
    ("*: Swap SyncDir * / Create ./_pintail/KEY.N.inprogress", "as above: KEY is not there before its rename"),
    ("*: Swap SyncDir * / Create ./_pintail/snapshots/N.json.N.inprogress", "the snapshot is not there before its rename"),
    ("recovery: Swap Remove *.N.inprogress / *", "a left-over that comes back is removed by the next start"),
    ("recovery: Swap Remove ./_pintail/staging/N-N/N.inprogress / Rmdir *", "where the directory is not empty it is cleared again"),
    ("recovery: Swap SyncDir ./_pintail/staging / Remove *", "the left-over is in another directory"),
    ("*: Skip R* /data/.out.compaction/N-N.N*", "no reader looks there, and each start clears what is left of an old directory"),
    ("*: Swap Remove /data/.out.compaction/N-N.N/* / Rmdir *", "where the directory is not empty it is cleared again"),
    ("*: Swap Rmdir /data/.out.compaction/N-N.N / *", "what is left beside the dataset goes at any time after the exchange is durable"),
    ("*: Swap Link /data/.out.compaction/N-N.N/* / Link *", "the names come in any order before the directory is durable"),
    (
        "recovery: S* Mkdir /data/.out.compaction/N-N.N*",
        "the links fail then, and it is built again, as where another start has taken it away",
    ),
    ("recovery: Skip Exchange ./region=R", "whether it was done is looked at, and it is done again"),
    ("recovery: Swap Exchange ./region=R / SyncDir ./", "the root is made durable once more before the old directory goes"),
    ("recovery: Swap SyncDir ./ / R* /data/.out.compaction/N-N.N*", "as above: where it is the only one, it is caught"),
    ("recovery: Skip Link ./region=R/events-N-N.parquet", "the exchange has brought the file already"),
    ("recovery: Swap SyncDir ./ / Link ./region=R/events-N-N.parquet", "as above"),
    ("recovery: Swap SyncDir ./_pintail/staging / Rmdir /data/.out.compaction/N-N.N", "the one has nothing to do with the other"),
    ("recovery: Skip SyncDir /data", "needed where the root is new, where it is caught; beside it nothing has to survive"),
    ("script: Skip Remove ./_pintail/staging/N-N/N.inprogress", "where the directory is not empty it is cleared again"),
    ("script: Swap Remove ./_pintail/staging/N-N/N.inprogress / Rmdir *", "as above"),
];
