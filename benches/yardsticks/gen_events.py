"""Writes N NDJSON events of the default schema: gen_events.py N OUT [SEED]. Needs: pip install duckdb."""
import sys, duckdb
n, out = int(sys.argv[1]), sys.argv[2]
seed = float(sys.argv[3]) if len(sys.argv) > 3 else 0.42
duckdb.sql(f"""
SET threads=1; SELECT setseed({seed});
COPY (
  SELECT 1767225600000 + i * 3 + (random()*1000)::BIGINT AS timestamp,
         (random()*1000000)::BIGINT AS user_id,
         ['us','eu','apac','latam','africa'][1 + (random()*4.9999)::INT % 5] AS region,
         round(random()*100, 4) AS amount,
         'SKU-' || lpad(((random()*5000)::INT)::VARCHAR, 5, '0') AS sku
  FROM range({n}) t(i)
) TO '{out}' (FORMAT json)
""")
