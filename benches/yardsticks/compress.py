"""Compresses a file as gzip (level 6) or zstd (level 1): compress.py FILE OUT gz|zst. Needs: pip install pyarrow."""
import gzip, shutil, sys, pyarrow as pa
src, out, codec = sys.argv[1:4]
with open(src, "rb") as plain, (gzip.open(out, "wb", 6) if codec == "gz" else pa.CompressedOutputStream(out, "zstd")) as packed:
    shutil.copyfileobj(plain, packed, 1 << 20)
