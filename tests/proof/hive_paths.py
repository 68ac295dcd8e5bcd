#!/usr/bin/env python3
"""Sends thousands of random and nasty values through Pintail into the names of directories, and reads them back with DuckDB and pyarrow.

    python3 tests/proof/hive_paths.py                       2,000 values
    python3 tests/proof/hive_paths.py --values 50000 --seed 7

Every record comes back with the values that it had, in both readers, or is a dead letter that rightly says why its value cannot be in a path;
none is lost, none doubled, nothing is written beside the dataset. Exit code 1 otherwise, and when nothing was proved.

Owns: the values, and which of them no path can hold.
Does not own: reading a dataset (see oracle.py), the process (see process.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.dataset

import process
from oracle import Broken, Dataset
from process import Pintail

NULL = "__HIVE_DEFAULT_PARTITION__"
COMPONENT_BYTES_MAX = 200
PLAIN = re.compile(rb"[A-Za-z0-9_.~-]")
NASTY = [
    "", " ", "  ", ".", "..", "../..", "../../etc/passwd", "/", "//", "/etc", "a/b", "a\\b", "\\", "%", "%%", "%2F", "%2f", "%00", "%252F", "=", "==", "a=b", "region=us",
    "+", "a+b", "a b", "&", "#", "?", "*", "**", "**/*.parquet", "[a]", "[!a]", "{a,b}", "~", "~root", "$HOME", "`id`", "$(id)", "'", "''", '"', "\n", "\r", "\r\n", "\t",
    "\x01", "\x1b[31m", "\x7f", "\x80", "\u00a0", "\u2028", "\u200b", "\u202e", "\ufeff", "\ufffd", "\ufffe", "\U0010ffff", "é", "e\u0301", "ß", "İ", "ı", "Ł", "🦆", "👩‍👩‍👧",
    "null", "NULL", "None", "nan", "NaN", "inf", "-0", "007", "7", "1e5", "0x10", "1_000", "true", "TRUE", "2026-01-01", "2026-01-01T00:00:00Z", "12:00",
    "_pintail", "_temporary", ".hidden", "con", "NUL", "aux.parquet", "us", "US", "Us", "x.parquet", ".PARQUET", "a/x.parquet", "x.inprogress", "x" * 183 + ".parquet", "x" * 184 + ".parquet",
    NULL, NULL.lower(), NULL.title(), f" {NULL}", f"{NULL} ", NULL[:-1], f"{NULL}_", f"%5F{NULL[1:]}", "__HIVE_DEFAULT_PARTITION%5F_",
    "a\0b", "\0", "r" * 193, "r" * 194, "%" * 64, "%" * 65, "é" * 32, "é" * 33, "x" * 255, "x" * 5000,
]
ALPHABETS = ["abcXYZ019", "%25F=/.", "_HIVEDFAULTPRON", " \t\n\r\x0b", "\x00\x01\x1f\x7f", "éßŁİ漢字🦆", "".join(map(chr, range(32, 127))), "\\'\"`$*?[]{}"]


def texts(rng, count):
    """Returns values, the nasty ones first; None among them."""
    values = [None, *NASTY]
    while len(values) < count:
        kind = rng.randrange(4)
        if kind == 0:
            text = "".join(rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randrange(1, 40)))
        elif kind == 1:
            text = "".join(map(chr, (c for c in (rng.randrange(0x110000) for _ in range(rng.randrange(1, 12))) if not 0xD800 <= c < 0xE000)))
        elif kind == 2:
            # About as long as a name may be.
            unit = rng.choice(["a", "%", "é", "漢", "🦆", "a%"])
            text = unit * (rng.randrange(188, 200) // len(unit.encode()) // (1 if unit == "a" else rng.choice([1, 3])))
        else:
            text = list(rng.choice(NASTY))
            for _ in range(rng.randrange(1, 3)):
                text.insert(rng.randrange(len(text) + 1), rng.choice(rng.choice(ALPHABETS)))
            text = "".join(text)
        values.append(text)
    return values[:count]


def typed(rng):
    """Returns an integer, a boolean and a date, or nulls."""
    number = rng.choice([None, 0, -1, 2**63 - 1, -2**63, rng.getrandbits(63), -rng.getrandbits(20)])
    day = rng.choice([None, "0001-01-01", "9999-12-31", "1969-12-31", str(date(1970, 1, 1) + timedelta(rng.randrange(-10_000, 100_000)))])
    return number, rng.choice([None, True, False]), day


def cannot_be_in_a_path(column, value):
    """Returns whether a text has no directory that readers give back as itself."""
    if value is None:
        return False
    encoded = sum(1 if PLAIN.fullmatch(bytes([byte])) else 3 for byte in value.encode())
    encoded += 2 * (value.upper() == NULL or value.lower().endswith(".parquet"))
    return value == NULL or "\0" in value or len(column) + 1 + encoded > COMPONENT_BYTES_MAX


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pintail", type=Path, default=process.default_binary(), help="the binary (default: %(default)s)")
    parser.add_argument("--values", type=int, default=2_000, help="values of text (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="default: another each time")
    parser.add_argument("--work", type=Path, help="work there, and leave it (default: a temporary directory)")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="pintail-hive-"))
    work.mkdir(parents=True, exist_ok=True)
    print(f"{arguments.values} values of text, and as many triples of an integer, a boolean and a date; seed {arguments.seed}", flush=True)
    try:
        prove_texts(arguments, work / "texts")
        prove_typed(arguments, work / "typed")
    except Broken as broken:
        print(f"BROKEN (seed {arguments.seed}): {broken}", file=sys.stderr)
        return 1
    finally:
        if not arguments.work:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def prove_texts(arguments, directory):
    values = texts(random.Random(arguments.seed), arguments.values)
    columns = [("id", "int64"), ("region", "text")]
    events = [{"id": n, "region": value} for n, value in enumerate(values)]
    dataset = run(arguments, directory, columns, events, ["region"])
    letters = {json.loads(letter["record"])["id"]: letter for letter in dataset.dead_letters()}
    for n, value in enumerate(values):
        if cannot_be_in_a_path("region", value) != (n in letters):
            raise Broken(f"{value!r} " + (f"is a dead letter: {letters[n]['reason']}" if n in letters else "is no dead letter"))
    for letter in letters.values():
        if letter["phase"] != "sink" or "partition column `region`" not in letter["reason"]:
            raise Broken(f"a dead letter without a reason: {letter}")
    expected = {n: (value,) for n, value in enumerate(values) if n not in letters}
    compare(dataset, expected, {"region": "VARCHAR"}, [("region", pyarrow.string())])
    if not letters or len(expected) < 0.5 * len(values):
        raise Broken(f"nothing was proved: {len(letters)} dead letters, {len(expected)} rows")
    distinct, dirs = len({value for value, in expected.values()}), sum(1 for path in dataset.path.iterdir() if path.name.startswith("region="))
    if distinct != dirs:
        raise Broken(f"{distinct} different values lie in {dirs} directories")
    print(f"text: {len(expected)} rows came back equal by DuckDB and pyarrow, from {dirs} directories; {len(letters)} dead letters:")
    kinds = Counter(re.sub(r"`[^`]*`|\d+", "…", letter["reason"].split(": ", 1)[1]) for letter in letters.values())
    for reason, count in kinds.most_common():
        print(f"  {count:>6}  {reason}")


def prove_typed(arguments, directory):
    rng = random.Random(arguments.seed + 1)
    values = [typed(rng) for _ in range(arguments.values)]
    columns = [("id", "int64"), ("n", "int64"), ("flag", "boolean"), ("day", "date")]
    events = [{"id": i, "n": n, "flag": flag, "day": day} for i, (n, flag, day) in enumerate(values)]
    dataset = run(arguments, directory, columns, events, ["flag", "n", "day"])
    expected = {i: (n, flag, day and date.fromisoformat(day)) for i, (n, flag, day) in enumerate(values)}
    compare(dataset, expected, {"n": "BIGINT", "flag": "BOOLEAN", "day": "DATE"},
            [("flag", pyarrow.bool_()), ("n", pyarrow.int64()), ("day", pyarrow.date32())], ("n", "flag", "day"))
    if dataset.dead_letters():
        raise Broken(f"dead letters: {dataset.dead_letters()[:3]}")
    print(f"integers, booleans, dates: {len(expected)} rows came back equal by DuckDB and pyarrow")


def run(arguments, directory, columns, events, partition_by):
    """Sends events through the binary and checks what is left. Returns the dataset."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with open(directory / "events.ndjson", "w") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    schema = "".join(f'[[schema.columns]]\nname = "{name}"\ntype = "{data_type}"\n' for name, data_type in columns)
    (directory / "pintail.toml").write_text(schema)
    config = {
        "pipeline.out_path": "out", "source.type": "file", "source.path": "events.ndjson", "transform.sql": "SELECT * FROM events",
        "sink.partition_by": partition_by, "sink.event_time": "", "sink.partitions_max": 1_000_000, "dead_letters.ratio_max": 1.0,
    }
    before = set(directory.iterdir())
    begin = time.monotonic()
    pintail = Pintail(arguments.pintail, config, directory, command=("run", "--config", "pintail.toml"))
    code = pintail.start().wait(3600)
    if code != 0:
        raise Broken(f"exit code {code}: {pintail.stderr()[-1000:]}")
    print(f"{', '.join(partition_by)}: {len(events)} records in {time.monotonic() - begin:.1f} s", flush=True)
    if set(directory.iterdir()) - before != {directory / "out"}:
        raise Broken(f"something was written beside the dataset: {sorted(directory.iterdir())}")
    dataset = Dataset(directory / "out")
    dataset.check()
    return dataset


def compare(dataset, expected, hive_types, fields, names=("region",)):
    """Holds what DuckDB and pyarrow read against `expected`: values by id."""
    types = ", ".join(f"{name}: {data_type}" for name, data_type in hive_types.items())
    sql = f"SELECT id, {', '.join(names)} FROM read_parquet('{dataset.path}/**/*.parquet', hive_types = {{{types}}})"
    found = {"DuckDB": duckdb.sql(sql).fetchall()}
    files = [str(path) for path in dataset.path.glob("**/*.parquet")]
    partitioning = pyarrow.dataset.partitioning(pyarrow.schema(fields), flavor="hive")
    table = pyarrow.dataset.dataset(files, partition_base_dir=str(dataset.path), partitioning=partitioning).to_table()
    found["pyarrow"] = list(zip(*(table.column(name).to_pylist() for name in ("id", *names)), strict=True))
    for reader, rows in found.items():
        if len(rows) != len(expected):
            raise Broken(f"{reader} reads {len(rows)} rows, {len(expected)} expected")
        for key, *values in rows:
            if tuple(values) != expected.get(key):
                raise Broken(f"{reader} reads {values!r}, {expected.get(key)!r} went in (id {key})")


if __name__ == "__main__":
    sys.exit(main())
