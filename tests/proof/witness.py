"""Goes along with a dataset that is killed again and again.

Owns: what the last kill has left, and that each new record, file and row is what the undisturbed run says.
Does not own: the kills (see kill_loop.py), the undisturbed run (see reference.py).
"""
from dataclasses import dataclass

import duckdb

import oracle
from state import State

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
        self.records, self.previous, self.state, self.named = 0, None, State(), set()
        self.compared = 0
        """Records whose rows have been held against the reference."""
        self.checkpoints = 0

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
        pending = self.dataset.unpublished_by(record)
        unpublished = files - visible if pending else set()
        if strays := visible - self.named:
            raise oracle.Broken(f"visible without a commit record: {sorted(strays)[:3]}")
        if missing := self.named - visible - unpublished:
            raise oracle.Broken(f"committed, but not visible: {sorted(missing)[:3]}")
        self._check_staged(staged, number)
        self._compare(number - bool(unpublished))
        left = self._label(len(files) - len(unpublished), len(files)) if pending else \
            STAGING if staged or self.dataset.in_progress() else NOTHING
        offset = max(self.state.offsets().values(), default=0)
        return Left(left, number, offset, len(files) - len(unpublished), tuple(sorted(unpublished)))

    def _label(self, published, files):
        return ALL_PUBLISHED if published == files else SOME_PUBLISHED if published else NONE_PUBLISHED

    def _take(self, number):
        record, sha256 = oracle.unsealed(self.dataset.record_path(number))
        oracle.check_inside(number, record)
        oracle.check_follows(number, record, self.previous, self.state)
        self.records, self.previous = number, sha256
        self.checkpoints += oracle.is_checkpoint(record)
        self.named |= {file["path"] for file in record["files"]}

    def _check_staged(self, staged, number):
        """Checks that staging is of the last checkpoint, or of a later one that a start has fenced or that was never committed."""
        last = self.dataset.last_checkpoint()
        checkpoint = oracle.staged_as(last) if last else (0, 0)
        others = [each for each in staged if each != checkpoint and not checkpoint[0] < each[0] <= number + 1]
        if others and not (self.staging_returns and all(each[0] < checkpoint[0] for each in others)):
            raise oracle.Broken(f"staging of {others}, the last record is {number}, the last checkpoint {checkpoint}")

    def _compare(self, end):
        """Compares the checkpoints up to `end` that are new: files with their checksums, rows with those of their events."""
        records = [self.dataset.record(number) for number in range(self.compared + 1, end + 1)]
        records = [record for record in records if oracle.is_checkpoint(record)]
        if not records:
            return
        for record in records:
            for file in record["files"]:
                oracle.check_file(self.dataset.path, record["sequence"], file)
        files = [self.dataset.path / file["path"] for record in records for file in record["files"]]
        first, last = records[0]["source"]["partitions"][0]["from"], oracle.end_of(records[-1]["source"]["partitions"])
        found, expected = self.dataset.sums(self.connection, files), self.reference.sums(first, last)[:2]
        if found != expected:
            raise oracle.Broken(f"checkpoints {self.compared + 1} to {end} have {found}, the events {first} to {last} are {expected}")
        self.compared = end
