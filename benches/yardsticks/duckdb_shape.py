"""The job of duckdb_batch.py over the columns of another shape: duckdb_shape.py SHAPE EVENTS.ndjson OUT. Needs: pip install duckdb."""
import sys, time, duckdb
from shapes import SHAPES
shape, (src, out) = SHAPES[sys.argv[1]], sys.argv[2:4]
t = time.monotonic()
duckdb.sql(f"COPY (SELECT {shape.select} FROM {shape.read(src)}) TO '{out}' (FORMAT parquet, PARTITION_BY (region), COMPRESSION zstd)")
dt = time.monotonic() - t
rows = duckdb.sql(f"SELECT count(*) FROM '{out}/**/*.parquet'").fetchall()[0][0]
print(f"{rows} events in {dt:.2f} s = {rows/dt:,.0f} events/s")
