"""Goes along with a dataset that is killed again and again.

Owns: what the last kill has left, and that each new record, file and row is what the undisturbed run says.
Does not own: the kills (see kill_loop.py), the undisturbed run (see reference.py).
"""
from dataclasses import dataclass

import duckdb

import oracle

NOTHING, STAGING = "nothing", "staging only"
NONE_PUBLISHED, SOME_PUBLISHED, ALL_PUBLISHED = (f"record, {part} published" for part in ("no file", "some files", "all files"))
ROLL_FORWARD = (NONE_PUBLISHED, SOME_PUBLISHED, ALL_PUBLISHED)
LABELS = (NOTHING, STAGING, *ROLL_FORWARD)


@dataclass(frozen=True)
class Left:
    """What a killed process has left, which is what the next one finds."""
    label: str
    number: int
    """Of the last record; 0 if there is none."""
    offset: int
    published: int
    """Visible files of the last record."""
    missing: tuple
    """Files of the last record that are still staged."""


class Witness:
    """Looks at each record and file once, when it is new; the whole is checked at the end by `oracle.Dataset.check`.

    `staging_returns`: after a power cut the staging of an earlier checkpoint may be there again, since nothing hangs on its removal.
    """

    def __init__(self, dataset, reference, staging_returns=False):
        self.dataset, self.reference, self.staging_returns = dataset, reference, staging_returns
        self.connection = duckdb.connect(config={"threads": 1})
        self.records, self.previous, self.offsets, self.named = 0, None, {}, set()
        self.compared = 0
        """Checkpoints whose rows have been held against the reference."""

    def look(self):
        """Checks a dataset that nobody works on."""
        number = self.dataset.last_number()
        if number < self.records:
            raise oracle.Broken(f"record {self.records} has vanished, the last is {number}")
        if number and not self.previous:
            self.previous = oracle.unsealed(self.dataset.private / "FORMAT")[1]
        for fresh in range(self.records + 1, number + 1):
            self._take(fresh)
        record, staged, visible = self.dataset.last(), self.dataset.staged(), self.dataset.visible_names()
        files = {file["path"] for file in record["files"]} if record else set()
        # Only while its staging is there may files of the last record be missing.
        unpublished = files - visible if number in staged else set()
        if strays := visible - self.named:
            raise oracle.Broken(f"visible without a commit record: {sorted(strays)[:3]}")
        if missing := self.named - visible - unpublished:
            raise oracle.Broken(f"committed, but not visible: {sorted(missing)[:3]}")
        # A start removes what older processes have staged once its own record is there.
        earlier = self.staging_returns or record is not None and record.get("opened")
        if others := [other for other in staged if other not in (number, number + 1) and not (earlier and other < number)]:
            raise oracle.Broken(f"staging of {others}, the last record is {number}")
        self._compare(number - bool(unpublished))
        left = self._label(len(files) - len(unpublished), len(files)) if files and number in staged else \
            STAGING if staged or self.dataset.in_progress() else NOTHING
        return Left(left, number, self.dataset.next_offset(), len(files) - len(unpublished), tuple(sorted(unpublished)))

    def _label(self, published, files):
        return ALL_PUBLISHED if published == files else SOME_PUBLISHED if published else NONE_PUBLISHED

    def _take(self, number):
        record, sha256 = oracle.unsealed(self.dataset.record_path(number))
        oracle.check_inside(number, record)
        oracle.check_follows(number, record, self.previous, self.offsets)
        self.records, self.previous, self.offsets = number, sha256, oracle.offsets_after(record, self.offsets)
        self.named |= {file["path"] for file in record["files"]}

    def _compare(self, end):
        """Compares the checkpoints up to `end` that are new: files with their checksums, rows with those of their events."""
        records = [self.dataset.record(number) for number in range(self.compared + 1, end + 1)]
        records = [record for record in records if record["source"]["partitions"]]
        if not records:
            return
        for record in records:
            for file in record["files"]:
                oracle.check_file(self.dataset.path, record["sequence"], file)
        files = [self.dataset.path / file["path"] for record in records for file in record["files"]]
        first, last = records[0]["source"]["partitions"][0]["from"], oracle.next_offset(records[-1])
        found, expected = self.dataset.sums(self.connection, files), self.reference.sums(first, last)[:2]
        if found != expected:
            raise oracle.Broken(f"checkpoints {self.compared + 1} to {end} have {found}, the events {first} to {last} are {expected}")
        self.compared = end
