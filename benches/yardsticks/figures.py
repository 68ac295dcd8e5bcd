"""What a job's output must hold, as figures that do not depend on the order of rows: figures.py SHAPE FILE-OR-DIRECTORY [--even].

An NDJSON file is run through the SELECT of the shape first, a directory is read as hive-partitioned Parquet; both by DuckDB, both into
JSON of the same form, {region: {figure: value}}. Integers throughout, so that equal means equal: a number counts in ten-thousandths,
a text by its length and its hash. --even rounds halves to even, as Polars does. Needs: pip install duckdb."""
import json, os, sys, duckdb
from shapes import SHAPES

FIGURES = {
    "BIGINT": {"sum": "sum({})"},
    "DOUBLE": {"sum": "sum(round({} * 1e4)::HUGEINT)"},
    "BOOLEAN": {"true": "count_if({})"},
    "TIMESTAMP": {"sum": "sum(epoch_ms({}))", "min": "min(epoch_ms({}))", "max": "max(epoch_ms({}))"},
    "VARCHAR": {"length": "sum(strlen({}))", "hash": "sum(hash({}))"},
}

def rows(shape, path, even):
    if os.path.isdir(path):
        return f"SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning=true, hive_types={{region: VARCHAR}})"
    return f"SELECT {shape.select.replace('round(', 'round_even(') if even else shape.select} FROM {shape.read(path)}"

def main():
    source = rows(SHAPES[sys.argv[1]], sys.argv[2], "--even" in sys.argv)
    figures = {"rows": "count(*)"}
    for name, type_, *_ in duckdb.sql(f"DESCRIBE {source}").fetchall():
        figures[f"present {name}"] = f'count("{name}")'
        for figure, sql in FIGURES[type_].items():
            figures[f"{figure} {name}"] = sql.format(f'"{name}"')
    names = sorted(figures)
    groups = duckdb.sql(f"SELECT region, {', '.join(figures[name] for name in names)} FROM ({source}) GROUP BY region").fetchall()
    print(json.dumps({region: dict(zip(names, values)) for region, *values in groups}))
main()
