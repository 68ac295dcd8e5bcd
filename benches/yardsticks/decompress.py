"""Decompression alone, the bound of whatever reads a compressed file on one core: decompress.py FILE.gz|FILE.zst EVENTS. Needs:
pip install pyarrow. EVENTS is how many the file holds; they are not counted, which would cost time."""
import sys, time, pyarrow as pa
path, events = sys.argv[1], int(sys.argv[2])
codec = {"gz": "gzip", "zst": "zstd"}[path.rsplit(".", 1)[1]]
t = time.monotonic()
with pa.input_stream(path, compression=codec) as stream:
    while stream.read(1 << 20):
        pass
dt = time.monotonic() - t
print(f"{events} events in {dt:.2f} s = {events/dt:,.0f} events/s")
