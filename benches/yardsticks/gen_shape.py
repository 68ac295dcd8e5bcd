"""Writes N NDJSON events of a shape other than the default one: gen_shape.py SHAPE N OUT. Needs: pip install duckdb."""
import sys, duckdb
from shapes import SHAPES
shape, n, out = SHAPES[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
duckdb.sql(f"SET threads=1; SELECT setseed(0.42); {shape.prepare}")
duckdb.sql(f"COPY ({shape.rows(n)}) TO '{out}' (FORMAT json)")
