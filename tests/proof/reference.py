"""What the simulator's events are, event by event, from a run that nobody disturbed.

Owns: the undisturbed dataset, one row after the other in the order of events; the sums of any range of events.
Does not own: the dataset that is held against it (see oracle.py).
"""
from pathlib import Path

import duckdb

import oracle
from process import Pintail

BLOCK = 2_000_000
"""Events that are made at a time."""


class Reference:
    """Event n is a function of seed, start time and n, so any range of events of a disturbed run has its counterpart here."""

    def __init__(self, binary, work, settings):
        self.binary, self.work = binary, Path(work)
        # One hive partition, one file a run: the rows lie in the order of events.
        self.settings = settings | {"pipeline.out_path": "reference", "sink.partition_by": [], "sink.event_time": "", "source.rate": 0,
                                    "pipeline.checkpoint_interval": "1h", "sink.target_file_bytes": "64GiB"}
        self.dataset = oracle.Dataset(self.work / "reference")
        self.connection = duckdb.connect()
        self.connection.execute("CREATE TABLE events (n UINTEGER, row_hash UBIGINT, user_id INTEGER)")
        self.covered = 0

    def cover(self, events, exactly=False):
        """Makes at least so many events, or exactly so many."""
        limit = events if exactly else -(-events // BLOCK) * BLOCK
        if limit < self.covered or events <= self.covered and not exactly:
            return
        if limit > self.covered:
            Pintail(self.binary, self.settings | {"source.limit": limit}, self.work).run(timeout=600)
            record = self.dataset.last()
            files = [str(self.dataset.path / file["path"]) for file in record["files"]]
            if len(files) != 1 or oracle.end_of(record["source"]["partitions"]) != limit:
                raise oracle.Broken(f"the undisturbed run to event {limit} ended with {record}")
            row_hash = oracle.hash_of(name for name, _ in self.dataset.columns(self.connection))
            self.connection.execute(f"""INSERT INTO events SELECT {self.covered} + file_row_number, {row_hash}, user_id
                FROM read_parquet({files}, file_row_number = true, hive_partitioning = false)""")
            self.covered = limit

    def sums(self, begin, end):
        """Returns rows, sum of row hashes and sum of user ids of the events [begin, end)."""
        self.cover(end)
        return self.connection.execute("""SELECT count(*), coalesce(sum(row_hash::HUGEINT), 0), coalesce(sum(user_id), 0)
            FROM events WHERE n >= ? AND n < ?""", [begin, end]).fetchone()
