#!/usr/bin/env python3
"""Writes columns of all types, and reads them back with eleven readers of other projects: does each see the same values, and the same rows of a filter?

    nice python3 tests/proof/engines.py                     a long campaign: the first time it installs 2 GB of readers; then a minute
    python3 tests/proof/engines.py --only duckdb polars     the readers whose name has one of these words

Every value that a reader gives is compared with the one that went in; each filter is asked twice, once so that the reader may skip row groups by what the
footer says, once over values that are loaded already (or with skipping switched off), and must give the same rows both times. Types that would come back as
something else must be refused by `pintail check`. What readers do differently, and always did, is written down in KNOWN and shown; anything else is a fault.

Readers are installed by `uv` into environments below --environments. Spark needs Java 17.

Owns: the readers and their versions, the events, what each value is, what is known to differ.
Does not own: how a reader is asked (see engines_read.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import datetime
import decimal
import json
import os
import random
import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import duckdb

import job
from oracle import Broken

READERS = {
    "duckdb 2.0": ("duckdb", "duckdb>=2.0,<2.1", "pyarrow"),
    "duckdb 1.5.5": ("duckdb", "duckdb==1.5.5", "pyarrow"),
    "duckdb 1.4": ("duckdb", "duckdb>=1.4,<1.5", "pyarrow"),
    "pyarrow 26": ("arrow", "pyarrow>=26,<27"),
    "pyarrow 17": ("arrow", "pyarrow>=17,<18", "numpy<2.3"),
    "polars": ("polars", "polars", "pyarrow"),
    "polars 1.41": ("polars", "polars>=1.41,<1.42", "pyarrow"),
    "pandas": ("pandas", "pandas", "pyarrow"),
    "datafusion": ("datafusion", "datafusion", "pyarrow"),
    "clickhouse (chdb)": ("chdb", "chdb", "pyarrow"),
    "spark": ("spark", "pyspark", "pandas", "pyarrow"),
}
NAMED = {"duckdb": "duckdb", "arrow": "pyarrow", "polars": "polars", "pandas": "pandas", "datafusion": "datafusion", "chdb": "chdb", "spark": "pyspark"}

ROWS, GROUP = 6_000, 1_000
SECOND = 1_000_000_000
EPOCH = datetime.date(1970, 1, 1)
DECLARED = {
    "id": "int64", "flag": "boolean", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "f32": "float32", "f64": "float64", "money": "decimal(12, 2)", "wide": "decimal(38, 5)", "txt": "text", "word": "dictionary", "ms": "timestamp_ms",
    "us": "timestamp_us", "ns": "timestamp_ns", "moment": "timestamp", "d": "date", "doc": "json",
}
"""Columns that are stored as they are declared."""
MADE = {
    "bytes": "encode(txt)", "uid": "u::UUID", "clock": "c::TIME", "zoned": "us::TIMESTAMPTZ", "sort": "word::ENUM('low', 'mid', 'high')", "huge": "h::HUGEINT",
    "whole_numbers": "[i32, NULL, i16]", "texts": "[txt, word]", "pair": "{'a': i32, 'b': txt}", "by_word": "MAP {coalesce(word, 'none'): i64}",
    "pairs": "[{'a': i32, 'b': txt}]", "days": "[d]", "plain": "x0::DOUBLE", "with_nan": "x1::DOUBLE", "zeros": "x2::DOUBLE", "ends": "x3::DOUBLE",
    "plain32": "x0::FLOAT", "with_nan32": "x1::FLOAT", "zeros32": "x2::FLOAT",
}
"""Columns that the SQL makes."""
FLOATS = ("plain", "with_nan", "zeros", "ends", "plain32", "with_nan32", "zeros32")
REFUSED = ("i64::UHUGEINT", "[i64::UHUGEINT]", "{'z': c::TIMETZ}", "c::TIMETZ", "INTERVAL 1 DAY", "to_days(i32)", "'101'::BIT", "i64::BIGNUM",
           "union_value(a := i32)", "i64::VARIANT", "md5_number(txt)")
"""Expressions of types that other readers would take for something else."""
REGIONS = [None, "eu", "us-east", "a b", "007", "ü/%", "true", "2026-01-05", "", "null"]

NAN_GREATEST = {"duckdb", "polars", "datafusion", "spark"}
"""Readers for which NaN is greater than all other numbers, as in PostgreSQL. For the others it compares with nothing."""
SPARK_REFUSES = {"clock": "TIME", "ns": "TIMESTAMP_NS"}
"""Columns for which Spark refuses the whole dataset. `check` must say so; Spark reads a dataset without them."""
KNOWN = {
    ("chdb", "hive", "region"): "ClickHouse shows hive values as they stand in the path (README, Reading the output)",
    ("datafusion", "hive", "region"): "DataFusion shows a hive NULL as the text __HIVE_DEFAULT_PARTITION__",
    ("duckdb 1.4", "hive", "region"): "DuckDB before 1.5 takes a hive NULL for the text __HIVE_DEFAULT_PARTITION__",
}


def groups_of(row):
    """Returns the texts of the four columns of floats of a row: row groups without NaN, with some, of nothing else; of one zero, of both; of infinities."""
    group, at = row // GROUP, row % GROUP
    plain = [at / 500, 3, 10 + at, -at, 20 + at, None][group]
    with_nan = ["NaN" if at == 7 else at / 500, 3, "NaN", 2 + at / 100, "NaN" if at % 2 else 11 + at, None][group]
    zeros = ["0.0", "-0.0", ("0.0", "-0.0")[at % 2], 1 + at, -1 - at, None if at % 2 else "0.0"][group]
    ends = ["-inf" if at < 9 else at / 500, "inf" if at < 9 else 3, "inf", "-inf", at, None if at % 2 else "NaN"][group]
    return [None if value is None else str(value) for value in (plain, with_nan, zeros, ends)]


def events(seed):
    """Returns the input's records, and for each what its row must be."""
    rng, inputs, rows = random.Random(seed), [], []
    for row in range(ROWS):
        null = (lambda value: None) if row % 17 == 5 else (lambda value: value)
        edge = row % 3
        def whole(bits, signed):
            low, high = (-2**(bits - 1), 2**(bits - 1) - 1) if signed else (0, 2**bits - 1)
            return null((low, high, rng.randint(low, high))[edge])
        event = {"id": row, "flag": null(row % 2 == 0)}
        event |= {f"i{bits}": whole(bits, True) for bits in (8, 16, 32, 64)} | {f"u{bits}": whole(bits, False) for bits in (8, 16, 32, 64)}
        single = struct.unpack("f", struct.pack("f", rng.uniform(-1e30, 1e30)))[0]
        event |= {"f32": null(single), "f64": null((5e-324, 1.7976931348623157e308, rng.gauss(0, 1e9))[edge])}
        money, wide = rng.randint(-10**12 + 1, 10**12 - 1), rng.choice((1, -1)) * rng.randint(0, 10**38 - 1)
        event |= {"money": null(f"{money / 100:.2f}"), "wide": null(f"{'-' if wide < 0 else ''}{abs(wide) // 10**5}.{abs(wide) % 10**5:05}")}
        event |= {"txt": null(rng.choice(["", "a", "ü🦆", "null", "a\0b", "x" * 300, f"t{row}"])), "word": null(rng.choice(["low", "mid", "high"]))}
        moment = rng.randint(-2_208_988_800, 9_000_000_000)
        event |= {"ms": null(moment * 1000 + 1), "us": null(moment * 1_000_000 + 1), "ns": null(moment * SECOND + 1)}
        at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=moment, microseconds=7)
        day = EPOCH + datetime.timedelta(days=rng.randint(-25_000, 100_000))
        event |= {"moment": null(at.isoformat() + "Z"), "d": null(day.isoformat()), "doc": null({"k": [row, None, "ü"]})}
        event |= {"u": null(str(uuid.UUID(int=rng.getrandbits(128)))), "c": null(f"{row % 24:02}:{row % 60:02}:59.000{row % 1000:03}")}
        huge = rng.choice((1, -1)) * rng.randint(0, 10**37)
        event |= {"h": null(str(huge))} | dict(zip(("x0", "x1", "x2", "x3"), groups_of(row)))
        event |= {"region": REGIONS[row % len(REGIONS)], "day": f"2026-01-{1 + row % 3:02}"}
        inputs.append(event)
        rows.append(becomes(event))
    return inputs, rows


def becomes(event):
    """Returns a row in the form of engines_read.py."""
    text = {name: event[name] for name in event}
    def given(name, form):
        return None if text[name] is None else form(text[name])
    def day(value):
        return (datetime.date.fromisoformat(value) - EPOCH).days
    def number(value):
        return "NaN" if value == "NaN" else struct.pack(">d", float(value)).hex()
    def single(value):
        return number(struct.unpack("f", struct.pack("f", float(value)))[0]) if value != "NaN" else "NaN"
    def exact(value):
        return f"{decimal.Decimal(value):f}".rstrip("0").rstrip(".") if "." in value else value
    def clock(value):
        hours, minutes, seconds = value.split(":")
        return (int(hours) * 3600 + int(minutes) * 60) * SECOND + round(float(seconds) * 1e6) * 1000
    row = {name: text[name] for name in ("id", "flag", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "txt", "word")}
    row |= {"f32": given("f32", number), "f64": given("f64", number), "money": given("money", exact), "wide": given("wide", exact)}
    row |= {"ms": given("ms", lambda v: v * 1_000_000), "us": given("us", lambda v: v * 1000), "ns": text["ns"]}
    at = given("moment", lambda v: datetime.datetime.fromisoformat(v.removesuffix("Z")) - datetime.datetime(1970, 1, 1))
    row |= {"moment": None if at is None else ((at.days * 86_400 + at.seconds) * 1_000_000 + at.microseconds) * 1000, "d": given("d", day)}
    row |= {"doc": given("doc", lambda v: json.dumps(v, ensure_ascii=False)), "bytes": given("txt", lambda v: v.encode().hex())}
    row |= {"uid": given("u", lambda v: v.replace("-", "")), "clock": given("c", clock), "zoned": row["us"], "sort": text["word"], "huge": given("h", str)}
    row |= {"whole_numbers": [text["i32"], None, text["i16"]], "texts": [text["txt"], text["word"]], "pair": {"a": text["i32"], "b": text["txt"]}}
    row |= {"by_word": [[text["word"] or "none", text["i64"]]], "pairs": [{"a": text["i32"], "b": text["txt"]}], "days": [row["d"]]}
    row |= {name: given(source, form) for name, source, form in (
        ("plain", "x0", number), ("with_nan", "x1", number), ("zeros", "x2", number), ("ends", "x3", number),
        ("plain32", "x0", single), ("with_nan32", "x1", single), ("zeros32", "x2", single))}
    return row


def write(options, work):
    """Has Pintail write both datasets; returns the plan for the readers and what the rows must be."""
    inputs, rows = events(options.seed)
    (work / "in.ndjson").write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in inputs))
    helpers = {"u": "text", "c": "text", "h": "text", "x0": "text", "x1": "text", "x2": "text", "x3": "text", "region": "text", "day": "date"}
    schema = "schema.columns=[" + ",".join(f"{{name={json.dumps(name)},type={json.dumps(kind)}}}" for name, kind in (DECLARED | helpers).items()) + "]"
    stored = ", ".join([*DECLARED, *(f"{sql} AS {name}" for name, sql in MADE.items())])

    def pintail(command, sql, *sets):
        arguments = [options.pintail, command]
        for setting in ("source.type=file", f"source.path={json.dumps(str(work / 'in.ndjson'))}", schema, f"transform.sql={json.dumps(sql)}", "transform.threads=1",
                        "sink.event_time=", f"sink.row_group_rows={GROUP}", 'sink.sort_by=["id"]', "admin.listen=", *sets):
            arguments += ["--set", setting]
        return subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=work)

    values, hive, spark = work / "values", work / "hive", work / "spark"
    checked = pintail("check", f"SELECT {stored} FROM events", "sink.partition_by=[]", f"pipeline.out_path={values}")
    silent = [f"`check` does not say that Spark refuses `{name}`" for name in SPARK_REFUSES
              if not any(f"`{name}`" in line and "Spark" in line for line in (checked.stdout + checked.stderr).splitlines())]
    fewer = f"SELECT * EXCLUDE ({', '.join(SPARK_REFUSES)}) FROM (SELECT {stored} FROM events)"
    for out, sql, partitions in ((values, f"SELECT {stored} FROM events", "[]"), (spark, fewer, "[]"), (hive, "SELECT id, region, day FROM events", '["region", "day"]')):
        ended = pintail("run", sql, f"sink.partition_by={partitions}", f"pipeline.out_path={out}")
        if ended.returncode != 0:
            raise Broken(f"it ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    not_refused = silent
    for expression in REFUSED:
        ended = pintail("check", f"SELECT id, {expression} AS v FROM events", "sink.partition_by=[]", f"pipeline.out_path={work}/none")
        if ended.returncode == 0:
            not_refused.append(f"`check` takes {expression}")
    # The readers see what a user hands them: files, not the records beside them.
    plan = {"values": str(values), "hive": str(hive), "spark": str(spark),
            "files": sorted(map(str, values.glob("*.parquet"))), "hive_files": sorted(map(str, hive.glob("*/*/*.parquet"))),
            "filters": filters(rows)}
    (work / "plan.json").write_text(json.dumps(plan))
    return plan, rows, not_refused


def filters(rows):
    """Returns conditions: those that find out what NaN, zeros and infinities do to a footer, and one for each value of other types."""
    shapes = ("{} > 1", "{} <> 3", "NOT ({} < 10)", "{} = 0", "{} >= 0", "{} < 0", "{} <= 1", "{} = 3", "NOT ({} >= 0)", "NOT ({} > 15)", "NOT ({} <> 3)")
    conditions = [shape.format(name) for name in FLOATS for shape in shapes]
    middle = rows[GROUP * 3 + 2]
    for name in ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "id"):
        conditions += [f"{name} = {middle[name]}", f"{name} > {middle[name]}"]
    return conditions + [f"txt = '{middle['txt'][:20]}'" if "\0" not in middle["txt"] else "txt = 'a'", "word = 'mid'", "word > 'low'"]


def environment(options, name):
    """Makes the environment of a reader, once. Returns its Python."""
    kind, *packages = READERS[name]
    directory = options.environments / name.replace(" ", "-").replace("(", "").replace(")", "")
    if not (directory / "ready").exists():
        subprocess.run(["uv", "venv", "-q", "--clear", directory], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", directory / "bin/python", *packages], check=True)
        (directory / "ready").touch()
    version = f"import importlib.metadata as m; print(m.version({NAMED[kind]!r}))"
    return directory / "bin/python", subprocess.run([directory / "bin/python", "-c", version], capture_output=True, text=True, check=True).stdout.strip()


def form(kind, column, value):
    """Returns a reader's value in the form of the expected one where types have no other name in it."""
    if value is None:
        return None
    if column == "uid":
        return str(value).replace("-", "")
    if column == "bytes" and kind == "chdb":
        return value.encode().hex()
    if column in ("doc", "txt", "word", "sort") and isinstance(value, bytes):
        return value.decode()
    if column == "flag":
        return bool(value)
    if column in ("wide", "money", "huge", "u64") and isinstance(value, str):
        value = value.rstrip("0").rstrip(".") if "." in value else value
        return int(value) if column == "u64" else value
    return value


def judge(name, plan, rows, answer):
    """Returns what a reader gave differently, and which of it is known."""
    kind, faults, known = READERS[name][0], [], []

    def differs(key, what):
        (known if key in KNOWN or (name, *key[1:]) in KNOWN else faults).append(what)

    whole = answer["whole"]
    if "error" in whole:
        return [f"cannot read the values: {whole['error']}"], known
    for column in rows[0]:
        if kind == "spark" and column in SPARK_REFUSES:
            known.append(f"{column}: Spark refuses datasets that have {SPARK_REFUSES[column]}, and `check` says so")
            continue
        given = [form(kind, column, value) for value in whole.get(column, [])]
        wanted = [row[column] for row in rows]
        if given != wanted:
            at = next((at for at, pair in enumerate(zip(given, wanted)) if pair[0] != pair[1]), None)
            shown = f"{len(given)} values" if at is None else f"{given[at]!r} for {wanted[at]!r} (row {at})"
            differs((kind, "column", column), f"{column}: {shown}, {sum(a != b for a, b in zip(given, wanted)):,} of {len(wanted):,}")
    hive = answer["hive"]
    if "error" in hive:
        faults.append(f"cannot read hive partitions: {hive['error']}")
    else:
        expected = {"region": [REGIONS[row % len(REGIONS)] for row in range(ROWS)], "day": [20_454 + row % 3 for row in range(ROWS)]}
        for column, wanted in expected.items():
            wrong = sorted({(repr(b), repr(a)) for a, b in zip(hive[column], wanted) if a != b})
            if wrong or len(hive[column]) != ROWS:
                differs((kind, "hive", column), f"hive {column}: " + ", ".join(f"{a} for {b}" for b, a in wrong))
    for where, (loaded, skipping) in answer["filters"].items():
        if loaded != skipping:
            count = [len(ids) if isinstance(ids, list) else ids for ids in (loaded, skipping)]
            differs((kind, "filter", where), f"{where}: {count[0]} rows, with skipping {count[1]}")
        elif isinstance(loaded, dict):
            differs((kind, "filter", where), f"{where}: {loaded['error']}")
        elif (wanted := holds(rows, where, kind in NAN_GREATEST)) != loaded:
            differs((kind, "filter", where), f"{where}: {len(loaded)} rows, by the values {len(wanted)}")
    return faults, known


def holds(rows, where, nan_greatest):
    """Returns the ids for which a condition holds."""
    negated = where.startswith("NOT (")
    column, operator, value = where.removeprefix("NOT (").removesuffix(")" if negated else "").split(" ", 2)
    literal = value.strip("'") if value.startswith("'") else int(value)
    found = []
    for row in rows:
        left = row[column]
        if left is None:
            continue
        if column in FLOATS:
            left = float("nan") if left == "NaN" else struct.unpack(">d", bytes.fromhex(left))[0]
        if left != left and nan_greatest:
            left = float("inf")
            holds = operator in (">", ">=", "<>")
        else:
            holds = {">": left > literal, "<": left < literal, "=": left == literal, "<>": left != literal, ">=": left >= literal, "<=": left <= literal}[operator]
        if holds != negated:
            found.append(row["id"])
    return found


def prove(options, work):
    plan, rows, failed = write(options, work)
    print(f"seed {options.seed}: {len(rows):,} rows of {len(rows[0])} columns in {GROUP}s, {len(plan['hive_files'])} hive partitions, {len(plan['filters'])} filters, "
          f"{len(REFUSED)} expressions that `check` must refuse: "
          f"{sum(fault.startswith('`check` takes') for fault in failed)} are not")
    for name in READERS:
        if options.only and not any(word in name for word in options.only):
            continue
        kind = READERS[name][0]
        python, version = environment(options, name)
        script = Path(__file__).with_name("engines_read.py")
        ended = subprocess.run([python, script, kind, work / "plan.json"], capture_output=True, text=True, env=os.environ | {"TZ": "UTC"})
        if ended.returncode != 0:
            faults, known = [f"the reader ended with {ended.returncode}: {ended.stderr[-800:]}"], []
        else:
            faults, known = judge(name, plan, rows, json.loads(ended.stdout))
        print(f"{name:18} {version:8} {'equal' if not faults else f'{len(faults)} FAULTS'}{f', but for {len(known)} known' if known else ''}", flush=True)
        for fault in faults:
            print(f"  FAILED {fault}")
        for fault in known:
            print(f"  known  {fault}")
        failed += [f"{name}: {fault}" for fault in faults]
    return failed


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--only", nargs="+", metavar="WORD", default=[], help="readers whose name has one of these words")
    add("--environments", type=Path, metavar="DIR", default=Path.home() / ".cache/pintail/engines", help="where the readers are installed (%(default)s)")
    return job.parse(parser)


if __name__ == "__main__":
    job.conclude(prove, arguments(), "engines")
