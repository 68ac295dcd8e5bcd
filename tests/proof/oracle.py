"""Reads a dataset as an outsider would, and says what is broken in it. Nothing here is Pintail's code.

    python3 tests/proof/oracle.py OUT [OTHER]       checks a dataset at rest; with a second one: that both have the same rows

Owns: the commit records and their chain, the files on disk against the records, the rows against those of another dataset. Reads records of
version 1 and 2.
Does not own: what the records add up to (see state.py), running Pintail (see process.py), what was done to it.
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.parquet

from letters import read_letters
from state import DoesNotFollow, State

PRIVATE = "_pintail"
RECORDS_PER_DIRECTORY = 10_000
KEPT = {"FORMAT", "JOURNALED", "KEY", "LOCK", "commits", "snapshots", "staging", "dead_letters", "instances", "journal", "index"}
"""What `_pintail/` may hold while nobody works on it."""
EXACT_ROWS_MAX = 1_000_000
"""Up to here the rows of two datasets are compared one by one; above, by count and sums."""


class Broken(Exception):
    """The dataset breaks a promise."""


def comparable(letter):
    """A rejected record without what differs between two runs over the same input: the id of a file is random."""
    partition = letter["partition"]
    return {**{k: v for k, v in letter.items() if k != "checkpoint"}, "partition": "file" if partition.startswith("file-") else partition}


class Dataset:
    def __init__(self, path):
        self.path = Path(path)
        self.private = self.path / PRIVATE

    # What the records say.

    def format(self):
        """Returns FORMAT, or None before there is one."""
        sealed = self._format()
        return sealed and sealed[0]

    def records(self):
        """Returns all commit records: each sealed and balanced, each following from those before it, as do the snapshots that they name."""
        sealed = self._format()
        numbers = self.record_numbers()
        if numbers and not sealed:
            raise Broken(f"{self.private / 'FORMAT'} is missing, but there are {len(numbers)} commit records")
        if numbers != list(range(1, len(numbers) + 1)):
            missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
            raise Broken(f"commit records are missing: {missing[:5]} of 1 to {numbers[-1]}")
        previous, state, records, paths = sealed and sealed[1], State(), [], set()
        snapshots = self._snapshots()
        for number in numbers:
            record, sha256 = self._sealed_record(number)
            check_inside(number, record)
            check_follows(number, record, previous, state)
            if snapshot := snapshots.pop(number, None):
                self._check_snapshot(number, snapshot, state, sealed[0])
            for file in record["files"]:
                if file["path"] in paths:
                    raise Broken(f"record {number} names {file['path']}, as an earlier one does")
                paths.add(file["path"])
            previous = sha256
            records.append(record)
        if snapshots:
            raise Broken(f"there are snapshots without a record: {sorted(snapshots)}")
        return records

    def checkpoints(self):
        """Returns the records of checkpoints, checked as all are."""
        return [record for record in self.records() if is_checkpoint(record)]

    def last(self):
        """Returns the last commit record, or None. It is checked in itself; its chain is not (see `records`)."""
        number = self.last_number()
        return self.record(number) if number else None

    def last_checkpoint(self):
        """Returns the record of the last checkpoint, or None. Those behind it were written by starts and operators."""
        return next((record for record in self._records_back(self.last_number()) if is_checkpoint(record)), None)

    def has_checkpoint_after(self, number):
        """Returns whether there is a checkpoint after record `number`."""
        while self.record_path(number := number + 1).exists():
            if is_checkpoint(self.record(number)):
                return True
        return False

    def last_number(self):
        """Returns the number of the last commit record; 0 if there is none."""
        directories = self._record_directories()
        while directories:
            if numbers := record_numbers_in(directories.pop()):
                return numbers[-1]
        return 0

    def next_offset(self, number=None):
        """Returns where a source of one partition goes on after record `number`, the last one by default; 0 before the first checkpoint."""
        for record in self._records_back(self.last_number() if number is None else number):
            if spans := record["source"]["partitions"]:
                return end_of(spans)
        return 0

    def record_numbers(self):
        """Returns the numbers of all commit records there are, in order."""
        numbers = []
        for directory in self._record_directories():
            inside = record_numbers_in(directory)
            if any(f"{number // RECORDS_PER_DIRECTORY:06}" != directory.name for number in inside):
                raise Broken(f"{directory} has a record of another directory")
            numbers += inside
        return numbers

    def record_path(self, number):
        """Returns where a commit record lies, or will."""
        return self.private / "commits" / f"{number // RECORDS_PER_DIRECTORY:06}" / f"{number:010}.json"

    def record(self, number):
        """Returns one commit record, checked in itself."""
        record, _ = self._sealed_record(number)
        check_inside(number, record)
        return record

    # What is on disk.

    def visible_files(self):
        """Returns what a plain glob finds: every `*.parquet` below the dataset, wherever it lies."""
        return [self.path / name for name in sorted(self.visible_names())]

    def visible_names(self):
        """Returns the same, as a set of names relative to the dataset."""
        found, cut = set(), len(str(self.path)) + 1
        for directory, _, names in os.walk(self.path):
            within = f"{directory}/"[cut:]
            found.update(within + name for name in names if name.endswith(".parquet"))
        return found

    def staged(self):
        """Returns the staging directories, each as the number of its checkpoint and the epoch of its process, which was 0 in version 1."""
        staging = self.private / "staging"
        names = os.listdir(staging) if staging.is_dir() else []
        return sorted((int(number), int(epoch or 0)) for number, _, epoch in (name.partition("-") for name in names))

    def unpublished_by(self, record):
        """Returns whether files of this record may still be staged: its staging directory is there."""
        return record is not None and is_checkpoint(record) and staged_as(record) in self.staged()

    def in_progress(self):
        """Returns what was being written outside staging, and the probe of the start."""
        private = [file for file in self.private.glob("*") if file.name not in KEPT]
        below = ("commits/**", "dead_letters", "snapshots")
        return sorted([*private, *(file for directory in below for file in self.private.glob(f"{directory}/*.inprogress"))])

    def dead_letters(self):
        """Returns all committed dead letters in order, each with the number of its checkpoint as `checkpoint`."""
        letters = []
        for record in self.records():
            for file in record["files"]:
                if file["kind"] == "dead_letters":
                    letters += (letter | {"checkpoint": record["sequence"]} for letter in read_letters(self.path / file["path"]))
        return letters

    def check(self, since=1):
        """Holds a dataset at rest against its records; the bytes of the files of checkpoint `since` and later."""
        records = self.records()
        self.check_visible(records)
        named = {file["path"] for record in records for file in record["files"]}
        for record in records[since - 1:]:
            for file in record["files"]:
                check_file(self.path, record["sequence"], file)
        self._check_nothing_else(named)
        if staged := self.staged():
            raise Broken(f"staging is not empty at rest: {staged}")
        if left := self.in_progress():
            raise Broken(f"left over at rest: {[str(path) for path in left]}")

    def check_visible(self, records, unpublished=frozenset()):
        """Checks that exactly the Parquet files of the records are visible, but for the paths that may be missing."""
        named = {file["path"] for record in records for file in record["files"] if file["kind"] == "parquet"}
        visible = self.visible_names()
        if strays := sorted(visible - named):
            raise Broken(f"visible without a commit record: {strays[:5]} ({len(strays)} files)")
        if missing := sorted(named - visible - set(unpublished)):
            raise Broken(f"committed, but not visible: {missing[:5]} ({len(missing)} files)")

    def _check_nothing_else(self, named):
        """Checks that the tree holds no file that nobody has named, whatever its ending."""
        for directory, names, files in os.walk(self.path):
            here = Path(directory)
            if here == self.path:
                names[:] = [name for name in names if name != PRIVATE]
            for name in files:
                path = str((here / name).relative_to(self.path))
                if path not in named:
                    raise Broken(f"{path} is in the dataset, and no commit record names it")
        for file in (self.private / "dead_letters").glob("**/*"):
            if str(file.relative_to(self.path)) not in named:
                raise Broken(f"{file} is there, and no commit record names it")

    # The rows.

    def columns(self, connection=None):
        """Returns the columns of the rows as (name, type), by name; empty while nothing is visible."""
        connection = connection or duckdb.connect()
        files = self.visible_files()
        if not files:
            return []
        return sorted((name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {self.scan()}").fetchall())

    def scan(self, files=None):
        """Returns the table function of a plain glob, or of the files that are given, for a query."""
        partitioned = (self.format() or {}).get("partition_by", [])
        types = ", ".join(f"{quoted(column['name'])}: {column['type']}" for column in partitioned)
        hive = f"hive_partitioning = true, hive_types = {{{types}}}" if partitioned else "hive_partitioning = false"
        names = [f"{self.path}/**/*.parquet"] if files is None else files
        return f"read_parquet([{', '.join(text(name) for name in names)}], {hive})"

    def sums(self, connection=None, files=None):
        """Returns the number of rows and a sum of their hashes, in which the order of rows plays no part."""
        connection = connection or duckdb.connect()
        columns = self.columns(connection)
        if not columns or files == []:
            return 0, 0
        row_hash = hash_of(name for name, _ in columns)
        rows, total = connection.execute(f"SELECT count(*), coalesce(sum({row_hash}::HUGEINT), 0) FROM {self.scan(files)}").fetchone()
        return rows, total

    def equals(self, other, connection=None):
        """Checks that both have the same columns, the same rows as often as each other, and the same dead letters."""
        connection = connection or duckdb.connect()
        mine, others = self.columns(connection), other.columns(connection)
        if mine != others:
            raise Broken(f"{self.path} has the columns {mine}, {other.path} has {others}")
        here, there = self.sums(connection), other.sums(connection)
        if mine and max(here[0], there[0]) <= EXACT_ROWS_MAX:
            self._check_rows_beyond(other, connection)
            other._check_rows_beyond(self, connection)
        if here != there:
            raise Broken(f"{self.path} has {here[0]} rows with the sum {here[1]}, {other.path} has {there[0]} with {there[1]}")
        letters = [Counter(json.dumps(comparable(letter), sort_keys=True) for letter in of.dead_letters())
                   for of in (self, other)]
        if letters[0] != letters[1]:
            differing = (letters[0] - letters[1]) + (letters[1] - letters[0])
            raise Broken(f"{differing.total()} dead letters are not in both: {next(iter(differing))}")

    def _check_rows_beyond(self, other, connection):
        columns = ", ".join(quoted(name) for name, _ in self.columns(connection))
        beyond = f"SELECT {columns} FROM {self.scan()} EXCEPT ALL SELECT {columns} FROM {other.scan()}"
        count, = connection.execute(f"SELECT count(*) FROM ({beyond})").fetchone()
        if count:
            first = connection.execute(f"{beyond} LIMIT 1").fetchone()
            raise Broken(f"{count} rows of {self.path} are too many, {other.path} lacks them; one: {first}")

    # How the parts are read.

    def _record_directories(self):
        commits = self.private / "commits"
        return sorted(path for path in commits.iterdir() if path.is_dir()) if commits.is_dir() else []

    def _format(self):
        path = self.private / "FORMAT"
        return unsealed(path) if path.exists() else None

    def _sealed_record(self, number):
        return unsealed(self.record_path(number))

    def _records_back(self, number):
        """Gives the records from `number` down to the first."""
        return map(self.record, range(number, 0, -1))

    def _snapshots(self):
        """Returns the paths of the snapshots by the number of the record whose state they hold."""
        return {int(path.stem): path for path in (self.private / "snapshots").glob("*.json")}

    def _check_snapshot(self, number, path, state, format):
        snapshot, _ = unsealed(path)
        if (snapshot["sequence"], snapshot["dataset_id"]) != (number, format["dataset_id"]):
            raise Broken(f"{path} says it is of record {snapshot['sequence']} of dataset {snapshot['dataset_id']}")
        if differs := state.check_snapshot(snapshot):
            raise Broken(f"{path} is not what the records say: {differs}")


def check_found(connection):
    """Checks that the tables `expected` and `found` have the same rows, each as often as the other."""
    for one, other, what in (("expected", "found", "lost"), ("found", "expected", "doubled or wrong")):
        beyond = f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}"
        count, = connection.execute(f"SELECT count(*) FROM ({beyond})").fetchone()
        if count:
            raise Broken(f"{count} rows {what}; one: {connection.execute(f'{beyond} LIMIT 1').fetchone()}")


def unsealed(path):
    """Reads two lines, JSON and the SHA-256 of the first. Returns the JSON and the checksum."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Broken(f"{path} cannot be read: {error}") from error
    first, separator, second = content.partition(b"\n")
    sha256 = hashlib.sha256(first).hexdigest()
    if not separator or second != b'{"sha256":"%s"}\n' % sha256.encode():
        raise Broken(f"{path} is torn or changed: its second line is not the SHA-256 of its first, {sha256}")
    return json.loads(first), sha256


def record_numbers_in(directory):
    return sorted(int(name.removesuffix(".json")) for name in os.listdir(directory) if name.endswith(".json"))


def is_checkpoint(record):
    """Returns whether a record is a checkpoint: neither the open record of a start nor an action of an operator."""
    return "trigger" in record


def staged_as(record):
    """Returns the staging directory of a checkpoint as `Dataset.staged` does."""
    return record["sequence"], record.get("epoch", 0)


def check_inside(number, record):
    """Checks what must hold in a record by itself."""
    counts, spans = record["counts"], record["source"]["partitions"]
    if record["sequence"] != number:
        raise Broken(f"record {number} says it is record {record['sequence']}")
    check_kind(number, record)
    if not counts_balance(counts):
        raise Broken(f"the counts of record {number} do not add up: {counts}")
    rows = {kind: sum(file["rows"] for file in record["files"] if file["kind"] == kind) for kind in ("parquet", "dead_letters")}
    if rows != {"parquet": counts["rows_out"], "dead_letters": sum(counts["dead_letters"].values())}:
        raise Broken(f"record {number} counts {counts}, its files have {rows}")
    if any(span["to"] < span["from"] for span in spans):
        raise Broken(f"record {number} has offsets that run backwards: {spans}")
    if record["source"]["kind"] in ("simulator", "stdin") and counts["records_in"] != sum(span["to"] - span["from"] for span in spans):
        raise Broken(f"record {number} counts {counts['records_in']} records, its offsets are {spans}")


def check_kind(number, record):
    """Checks that a record is one of the things that its version has."""
    opened, action, version, epoch = "opened" in record, "action" in record, record["version"], record.get("epoch", 0)
    if version == 1 and is_checkpoint(record) and not (opened or action or epoch):
        return
    one = opened + is_checkpoint(record) == 1 or action and not is_checkpoint(record)
    if version != 2 or not one or (epoch == number) != opened or epoch > number or not {"state_sha256", "key"} <= record.keys():
        raise Broken(f"record {number} is neither a checkpoint, nor an open record, nor an action: {record}")
    if opened and (record["files"] or any(span["to"] != span["from"] for span in record["source"]["partitions"])):
        raise Broken(f"record {number} opens the dataset, and has files or offsets: {record}")


def counts_balance(counts):
    taken = counts["rows_out"] + counts["filtered"] + sum(counts["dead_letters"].values())
    return counts["records_in"] + counts["expanded"] == taken


def check_follows(number, record, previous, state):
    """Checks that a record follows from what is before it, and takes it into the state: its checksum, each partition of the source, the hash."""
    if record["previous"] != previous:
        raise Broken(f"record {number} follows {record['previous']}, but what is before it has the checksum {previous}")
    if record["source"]["kind"] in ("simulator", "stdin"):
        for span in record["source"]["partitions"]:
            if span["id"] not in state.positions and span["from"] != 0:
                raise Broken(f"record {number} begins {span}, the source begins at 0")
    try:
        state.apply(record)
    except DoesNotFollow as error:
        raise Broken(f"record {number} does not follow: {error}") from None


def end_of(spans):
    """Returns the end of the only one of some spans."""
    if len(spans) > 1:
        raise ValueError(f"{len(spans)} source partitions have no single offset")
    return spans[0]["to"]


def check_file(root, number, file):
    """Holds a file against its entry in record `number`: bytes, checksum, rows."""
    path = root / file["path"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Broken(f"{file['path']} of record {number} cannot be read: {error}") from error
    if len(content) != file["bytes"] or hashlib.sha256(content).hexdigest() != file["sha256"]:
        raise Broken(f"{file['path']} is not what record {number} says: {len(content)} bytes, {file['bytes']} expected, or another SHA-256")
    try:
        rows = pyarrow.parquet.ParquetFile(path).metadata.num_rows if file["kind"] == "parquet" else sum(1 for _ in read_letters(path))
    except (pyarrow.ArrowException, ValueError) as error:
        raise Broken(f"{file['path']} of record {number} cannot be read: {error}") from error
    if rows != file["rows"]:
        raise Broken(f"{file['path']} has {rows} rows, record {number} says {file['rows']}")


def hash_of(columns):
    """Returns the SQL of a row's hash, in which the order of columns plays no part."""
    return f"hash({', '.join(quoted(name) for name in sorted(columns))})"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def text(value):
    return "'" + str(value).replace("'", "''") + "'"


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__.partition("\n\nOwns")[0])
    datasets = [Dataset(path) for path in sys.argv[1:]]
    try:
        for dataset in datasets:
            dataset.check()
        if len(datasets) == 2:
            datasets[0].equals(datasets[1])
    except Broken as broken:
        sys.exit(f"broken: {broken}")
    for dataset in datasets:
        print(f"{dataset.path}: {len(dataset.checkpoints())} checkpoints in {len(dataset.records())} records, {len(dataset.visible_files())} files, {dataset.sums()[0]} rows: sound")


if __name__ == "__main__":
    main()
