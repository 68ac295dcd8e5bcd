#!/usr/bin/env python3
"""Reads the Delta and Iceberg tables that Pintail publishes by readers that nobody here wrote: delta-rs, pyiceberg, Polars, and DuckDB's extensions.

    python3 -m venv /tmp/tables && /tmp/tables/bin/pip install deltalake==1.6.6 pyiceberg==0.12.0 polars==2.1.0 pyarrow==26.0.1 duckdb==1.5.5 \\
        duckdb-extension-delta==1.5.5 duckdb-extension-iceberg==1.5.5 duckdb-extension-avro==1.5.5
    /tmp/tables/bin/python tests/proof/tables.py [BINARY]

Under that Python, since the extensions are there for DuckDB 1.5.5 only. Each reader must find the rows that pyarrow finds in the files: all types that
both tables have, nulls, NaN, decimals, hive values with spaces, unicode, `%` and NULL, files with and without a new column, 40 commits with
checkpoints, and the log without the commits that those stand for. Each compares whole rows, and counts by filters that leave files out.

Owns: the readers and the comparison.
Does not own: kills and concurrent publishers (see `tests/it/tables.rs` and the tests of `crates/tables`).
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import deltalake
import duckdb
import duckdb_extension_avro
import duckdb_extension_delta
import duckdb_extension_iceberg
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

SQL = """SELECT id, region,
    nullif(id % 3 = 0, id % 5 = 0) AS flag, (id % 200 - 100)::TINYINT AS tiny, (id * 100 % 30000)::SMALLINT AS small,
    CASE WHEN id % 7 = 0 THEN NULL ELSE (id - 50)::INTEGER END AS int, (id * 1000000007)::BIGINT AS big,
    (id / 7)::FLOAT AS real, CASE WHEN id % 11 = 0 THEN 'nan'::DOUBLE ELSE id / 3 END AS double,
    (id * 1.25 - 40)::DECIMAL(9, 2) AS money, (id * 12345.678901 - 1)::DECIMAL(18, 6) AS rate, (id * 1e20)::DECIMAL(38, 4) AS huge,
    'text ü ' || id AS text, encode('bytes ' || id) AS blob, DATE '1969-12-01' + id::INTEGER AS day,
    make_timestamp(id * 1234567 - 50000000) AS local, to_timestamp(id * 1234.567) AS at,
    [id, NULL, id + 1] AS list, {'a': id, 'b': 'x' || id} AS pair, MAP {'k': id} AS map {more} FROM events"""
REGIONS = ["eu west", "100%", "a%20b", "ü/ö=ß", None, "a+b&c?d#e", "'\"\\:*"]
FILTERS = [("id >= 200 AND id < 300", 100), ("id = 17", 1), ("money > 1000", None), ("day < DATE '1970-01-01'", None), ("real > 20", None),
           ("region IS NULL", None), ("region = 'a%20b'", None), ("local >= TIMESTAMP '1970-01-01 00:05:00'", None)]


def run(binary, directory, *args, sql=None, lines="", new_columns=False):
    config = directory / "config.toml"
    config.write_text(f"""pipeline.out_path = "{directory}/out"
admin.listen = ""
source.type = "stdin"
sink.event_time = ""
sink.text_statistics = ["text"]
sink.allow_new_columns = {str(new_columns).lower()}
monitor.group_by = "region"
monitor.value = "id"
transform.sql = {json.dumps(sql or SQL.replace("{more}", ""), ensure_ascii=False)}
[[schema.columns]]
name = "id"
type = "int64"
[[schema.columns]]
name = "region"
type = "text"
[[table]]
name = "delta_events"
format = "delta"
interval = "1d"
[[table]]
name = "iceberg_events"
format = "iceberg"
interval = "1d"
""")
    done = subprocess.run([binary, "--config", config, *args], input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{args}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def events(first, last):
    return "".join(json.dumps({"id": n, "region": REGIONS[n % len(REGIONS)]}) + "\n" for n in range(first, last))


def of_files(out):
    parts = []
    for path in sorted(out.glob("*=*/*.parquet")):
        rows = pq.ParquetFile(path).read()
        value = path.parent.name.split("=", 1)[1]
        value = None if value == "__HIVE_DEFAULT_PARTITION__" else urllib.parse.unquote(value)
        parts.append(rows.append_column("region", pa.array([value] * rows.num_rows, pa.string())))
    return pa.concat_tables(parts, promote_options="default")


def plain(value):
    if isinstance(value, dict):
        value = list(value.items()) if set(value) != {"key", "value"} else [(value["key"], value["value"])]
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "tzinfo") and value.tzinfo is not None:
        return str(value.timestamp())
    return None if value is None else str(value)


def rows(table):
    names = sorted(table.column_names)
    return sorted(json.dumps([plain(row[name]) for name in names]) for row in table.select(names).to_pylist())


def readers(out):
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for name, package in [("avro", duckdb_extension_avro), ("delta", duckdb_extension_delta), ("iceberg", duckdb_extension_iceberg)]:
        place = Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        con.execute(f"LOAD '{place}'")
    yield "delta-rs", lambda: deltalake.DeltaTable(str(out)).to_pyarrow_table(), None
    yield "polars", lambda: polars.scan_delta(str(out)).collect().to_arrow(), lambda where: \
        polars.SQLContext(t=polars.scan_delta(str(out))).execute(f"SELECT count(*) FROM t WHERE {where}").collect().item()
    def arrow(sql):
        found = con.execute(sql).arrow()
        return found.read_all() if hasattr(found, "read_all") else found
    yield "duckdb", lambda: arrow(f"SELECT * FROM delta_scan('{out}')"), lambda where: \
        con.execute(f"SELECT count(*) FROM delta_scan('{out}') WHERE {where}").fetchone()[0]
    table = f"{out}/_iceberg"
    last = f"{table}/metadata/v{Path(table, 'metadata', 'version-hint.text').read_text().strip()}.metadata.json"
    yield "pyiceberg", lambda: StaticTable.from_metadata(table).scan().to_arrow(), lambda where: \
        StaticTable.from_metadata(table).scan(row_filter=where.replace("DATE ", "").replace("TIMESTAMP '1970-01-01 ", "'1970-01-01T")).to_arrow().num_rows
    yield "duckdb iceberg", lambda: arrow(f"SELECT * FROM iceberg_scan('{table}')"), lambda where: \
        con.execute(f"SELECT count(*) FROM iceberg_scan('{table}') WHERE {where}").fetchone()[0]
    yield "polars iceberg", lambda: polars.scan_iceberg(last).collect().to_arrow(), lambda where: \
        polars.SQLContext(t=polars.scan_iceberg(last)).execute(f"SELECT count(*) FROM t WHERE {where}").collect().item()


def compare(out, told):
    files = of_files(out)
    expected = rows(files)
    con = duckdb.connect()
    con.register("arrow_files", files)
    con.execute("CREATE TABLE files AS SELECT * FROM arrow_files")
    for name, read, count in readers(out):
        began = time.monotonic()
        found = rows(read())
        if found != expected:
            differ = next(((a, b) for a, b in zip(expected, found) if a != b), None)
            sys.exit(f"{name} reads {len(found)} rows of {len(expected)} ({told}); the first that differ:\n{differ}")
        counted = 0
        for where, known in FILTERS if count else []:
            right = con.execute(f"SELECT count(*) FROM files WHERE {where}").fetchone()[0]
            assert known is None or right in (known, 0) or len(expected) < 300, (where, right)
            try:
                got = count(where)
            except (polars.exceptions.PolarsError, ValueError) as error:  # its SQL is not DuckDB's
                print(f"   {name} does not take {where}: {str(error)[:60]}")
                continue
            if got != right:
                sys.exit(f"{name}: {where} gives {got} rows, not {right} ({told})")
            counted += 1
        print(f"{told:32} {name:14} {len(found):5} rows equal, {counted} filters, {time.monotonic() - began:.2f} s", flush=True)


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/pintail")
    with tempfile.TemporaryDirectory(prefix="pintail-tables-") as temporary:
        directory = Path(temporary)
        out = directory / "out"
        run(binary, directory, lines=events(1, 100))
        print(run(binary, directory, "publish").strip())
        compare(out, "one commit")
        for n in range(1, 8):
            run(binary, directory, lines=events(n * 100, n * 100 + 100))
            run(binary, directory, "publish")
        compare(out, "eight commits")
        more = SQL.replace("{more}", ", make_timestamp(id) AS later, id::DOUBLE AS weight")
        run(binary, directory, sql=more, lines=events(800, 810), new_columns=True)
        run(binary, directory, "publish")
        compare(out, "a new column")
        for n in range(810, 840):
            run(binary, directory, sql=more, lines=events(n, n + 1), new_columns=True)
            run(binary, directory, "publish")
        compare(out, "40 commits with checkpoints")
        log = out / "_delta_log"
        last = json.loads((log / "_last_checkpoint").read_text())["version"]
        for commit in log.glob("*.json"):
            if int(commit.stem) < last:
                commit.unlink()
        compare(out, "checkpoints alone")
        print(run(binary, directory, "verify").strip())


if __name__ == "__main__":
    main()
