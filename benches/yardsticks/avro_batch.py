"""Decodes N default events from Avro into an Arrow table with fastavro and pyarrow, 50,000 at a time, on one core: avro_batch.py [N].
Needs: pip install fastavro pyarrow."""
import io
import json
import random
import sys
import time

import fastavro
import pyarrow as pa

BATCH = 50_000
SCHEMA = fastavro.parse_schema({"type": "record", "name": "Event", "fields": [
    {"name": "timestamp", "type": "long"}, {"name": "user_id", "type": ["null", "long"]}, {"name": "region", "type": ["null", "string"]},
    {"name": "amount", "type": ["null", "double"]}, {"name": "sku", "type": ["null", "string"]}]})
ARROW = pa.schema([("timestamp", pa.int64()), ("user_id", pa.int64()), ("region", pa.string()), ("amount", pa.float64()), ("sku", pa.string())])


def messages(count):
    draw = random.Random(42)
    for index in range(count):
        to = io.BytesIO()
        fastavro.schemaless_writer(to, SCHEMA, {
            "timestamp": 1767225600000 + index * 3, "user_id": draw.randrange(1_000_000), "region": draw.choice(["us", "eu", "apac", "latam", "africa"]),
            "amount": round(draw.random() * 100, 4), "sku": f"SKU-{draw.randrange(5000):05}"})
        yield to.getvalue()


def decode(batch):
    rows = [fastavro.schemaless_reader(io.BytesIO(message), SCHEMA) for message in batch]
    return pa.Table.from_pylist(rows, schema=ARROW)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    batches = [list(messages(BATCH)) for _ in range(max(count // BATCH, 1))]
    best = min(timed(batch) for batch in batches)
    print(json.dumps({"rows_per_second": round(BATCH / best), "batches": len(batches), "fastavro": fastavro.__version__, "pyarrow": pa.__version__}))


def timed(batch):
    begin = time.process_time()
    table = decode(batch)
    assert table.num_rows == BATCH
    return time.process_time() - begin


if __name__ == "__main__":
    main()
