"""The Python pipeline that Pintail replaces: PyArrow → DuckDB → partitioned Parquet → Polars, reading NDJSON from a
file or simulating events: python_pipeline.py OUT [EVENTS.ndjson | --simulate N]. Needs: pip install duckdb pyarrow polars."""
import json, os, random, sys, time
from datetime import datetime, timezone
import duckdb, polars as pl, pyarrow as pa, pyarrow.parquet as pq

BATCH_ROWS, CHECKPOINT_SECONDS = 50_000, 30
REGIONS = ["us", "eu", "apac", "latam", "africa"]
SCHEMA = pa.schema([("timestamp", pa.int64()), ("user_id", pa.int64()),
                    ("region", pa.dictionary(pa.int8(), pa.string())), ("amount", pa.float64()), ("sku", pa.string())])
SQL = """SELECT epoch_ms("timestamp") AS ts, user_id, region::VARCHAR AS region, round(amount, 2) AS amount, sku,
         CASE WHEN amount >= 80 THEN 'high' WHEN amount >= 30 THEN 'medium' ELSE 'low' END AS bucket FROM batch"""

def events(args):
    if args[0] == "--simulate":
        for _ in range(int(args[1])):
            yield {"timestamp": int(time.time() * 1000), "user_id": random.randint(1, 1_000_000),
                   "region": random.choice(REGIONS), "amount": random.random() * 100,
                   "sku": f"SKU-{random.randint(0, 5000):05}"}
    else:
        with open(args[0], "rb") as f:
            for line in f:
                yield json.loads(line)

def main():
    out, con, i, total = sys.argv[1], duckdb.connect(config={"threads": 8, "memory_limit": "4GB"}), 0, 0
    def flush(buf):
        nonlocal i, total
        batch = pa.RecordBatch.from_pylist(buf, schema=SCHEMA)
        con.register("batch", batch)
        table = con.execute(SQL).to_arrow_table()
        con.unregister("batch")
        df = pl.from_arrow(table)
        hour = datetime.now(timezone.utc).strftime("%Y-%m-%d-%H")
        for (region,), part in df.partition_by("region", as_dict=True, include_key=False).items():
            d = f"{out}/region={region}"; os.makedirs(d, exist_ok=True)
            pq.write_table(part.to_arrow(), f"{d}/events-{hour}-{i}.parquet", compression="zstd")
        print(df.group_by("bucket").agg(pl.len().alias("n"), pl.col("amount").mean().alias("avg_amount")), file=sys.stderr)
        i += 1; total += len(buf)
    buf, last, t0 = [], time.monotonic(), time.monotonic()
    for e in events(sys.argv[2:]):
        buf.append(e)
        if len(buf) >= BATCH_ROWS or time.monotonic() - last >= CHECKPOINT_SECONDS:
            flush(buf); buf, last = [], time.monotonic()
    if buf: flush(buf)
    dt = time.monotonic() - t0
    print(f"{total} events in {dt:.2f} s = {total/dt:,.0f} events/s")
main()
