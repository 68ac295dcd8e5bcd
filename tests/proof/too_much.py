"""Inputs that are too much of something.

Owns: making them quickly and small: a gigabyte of zeros is a hole in a file, a few bytes in a .gz, an RLE block of a .zst.
Does not own: what becomes of them (see limits.py).
"""
import struct
import zlib

GOOD = b'{"timestamp":1767225600000,"user_id":1,"region":"eu","amount":5,"sku":"a"}\n'
ZERO = b"\0"
ZST_BLOCK = 128 << 10


class Inputs:
    """Files by what is in them, each made when first asked for."""

    def __init__(self, directory):
        self.directory = directory / "inputs"
        self.directory.mkdir(parents=True, exist_ok=True)

    def line(self, length):
        """A line of so many zeros behind a letter, between two good ones: zeros that a line begins with are no content."""
        return self._made("line.ndjson", lambda file: write_hole(file, GOOD + b"x", length, b"\n" + GOOD))

    def line_first(self, length):
        return self._made("line-first.ndjson", lambda file: write_hole(file, b"", length, b"\n" + GOOD))

    def line_gz(self, length):
        return self._made("line.ndjson.gz", lambda file: write_gz(file, [(GOOD + b"x", 1), (ZERO * (1 << 20), length >> 20), (b"\n" + GOOD, 1)]))

    def line_zst(self, length):
        return self._made("line.ndjson.zst", lambda file: write_zst(file, GOOD + b"x", length, b"\n" + GOOD))

    def window_zst(self):
        """A frame whose header asks for 2 GiB to decompress into."""
        return self._made("window.ndjson.zst", lambda file: file.write(b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3]) + zst_block(0, GOOD, last=True)))

    def bomb(self, size):
        """Good records of 1 KB."""
        record = b'{"timestamp":1767225600000,"region":"eu","pad":"' + b"a" * 974 + b'"}\n'
        pieces = size // (1024 * len(record))
        path = self._made("bomb.ndjson.gz", lambda file: write_gz(file, [(record * 1024, pieces)]))
        return path, 1024 * pieces

    def blank_bomb(self, size):
        return self._made("blank.ndjson.gz", lambda file: write_gz(file, [(b"\n" * (1 << 20), size >> 20)])), size

    def bad_bomb(self, lines):
        return self._made("bad.ndjson.gz", lambda file: write_gz(file, [(b"x\n" * 1000, lines // 1000)])), lines

    def deep(self, depth):
        """Objects and arrays in each other, closed and not, between good lines."""
        def write(file):
            file.write(GOOD)
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
                start = b'{"timestamp":1,"x":' + opening * depth
                file.write(start + b"1" + closing * depth + b"}\n" + start + b"\n")
            file.write(GOOD)
        return self._made("deep.ndjson", write)

    def regions(self, count):
        lines = (b'{"timestamp":1767225600000,"region":"r%d","amount":1}\n' % n for n in range(count))
        return self._made("regions.ndjson", lambda file: file.writelines(lines))

    def keys(self, count):
        """A million keys in a record, in an object of one, and a million times the same one, beside a record that is good."""
        def write(file):
            def members():
                return (b',"k%d":%d' % (n, n) for n in range(count))
            file.write(GOOD + b'{"timestamp":1')
            file.writelines(members())
            # A key twice: the record is read in the careful way.
            file.write(b'}\n{"timestamp":1,"timestamp":1,"within":{"k":1')
            file.writelines(members())
            file.write(b'}}\n{"timestamp":1' + b',"timestamp":1' * count + b"}\n")
        return self._made("keys.ndjson", write)

    def other_keys(self, count):
        lines = (b'{"timestamp":1767225600000,"key%d":1,"region":"eu"}\n' % n for n in range(count))
        return self._made("other-keys.ndjson", lambda file: file.writelines(lines))

    def long_key(self, name):
        line = b'{"timestamp":1767225600000,"%s":7,"%s":1,"region":"eu"}\n' % (name.encode(), b"u" * len(name))
        return self._made("long-key.ndjson", lambda file: file.write(2 * line))

    def numbers(self):
        """Numbers of odd size. Returns how many records are good and how many are not."""
        digits = "9" * 100_000
        bad = [("amount", n) for n in ("1e400", "-1e400", "1e999999999999", digits, f"{digits}.5")]
        bad += [("user_id", n) for n in ("1e400", "1e19", "-1e999999999999", digits, "1.5", "1e-400")]
        good = [("amount", n) for n in ("1e-400", "-1e-999999999999", "0e999999999999", f"0.{digits}", f"{digits}e-100000", "1e308")]
        good += [("user_id", n) for n in ("1e18", "9.223372036854775807e18", f"0.{'0' * 100_000}1e100001", "0e400", f"1{'0' * 100}e-100")]
        good += [("unknown", n) for n in ("1e400", digits, f"-{digits}e{digits}")]
        lines = [f'{{"timestamp":1767225600000,"{key}":{number}}}\n'.encode() for key, number in bad + good]
        return self._made("numbers.ndjson", lambda file: file.writelines(lines)), len(good), len(bad)

    def sql_long(self):
        return self._made("long.sql", lambda file: write_hole(file, b"SELECT * FROM events --", 100_000_000, b"\n"))

    def sql_deep(self, depth):
        sql = b"SELECT * FROM (" * depth + b"SELECT * FROM events" + b")" * depth
        return self._made("deep.sql", lambda file: file.write(sql))

    def sql_wide(self):
        return self._made("wide.sql", lambda file: file.write(b'SELECT epoch_ms("timestamp") AS ts, region, 1' + b" + 1" * 250_000 + b" AS bucket FROM events"))

    def config(self, name, columns, sql):
        """A configuration of these columns: (name, type, path or None)."""
        def table(name, data_type, path):
            path = f'path = "{path}"\n' if path else ""
            return f'[[schema.columns]]\nname = "{name}"\ntype = "{data_type}"\n{path}'
        text = "".join(table(*column) for column in columns) + f"[transform]\nsql = '''{sql}'''\n"
        return self._made(f"{name}.toml", lambda file: file.write(text.encode()))

    def config_long(self):
        return self._made("long.toml", lambda file: write_hole(file, b"# ", 100_000_000, b"\n"))

    def _made(self, name, write):
        path = self.directory / name
        if not path.exists():
            part = self.directory / f"part-{name}"
            with open(part, "wb") as file:
                write(file)
            part.rename(path)
        return path


def write_hole(file, before, length, behind):
    file.write(before)
    file.seek(length, 1)
    file.write(behind)


def write_gz(file, pieces):
    """Writes a gzip of one member: (bytes, how often) each. A piece is compressed once, and stands on its own behind a full flush."""
    file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
    checksum = length = 0
    for piece, times in pieces:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        compressed = deflate.compress(piece) + deflate.flush(zlib.Z_FULL_FLUSH)
        for _ in range(times):
            checksum = zlib.crc32(piece, checksum)
            file.write(compressed)
        length += len(piece) * times
    file.write(zlib.compressobj(9, zlib.DEFLATED, -15).flush() + struct.pack("<II", checksum, length & 0xFFFFFFFF))


def write_zst(file, before, zeros, behind):
    """Writes a Zstandard frame (RFC 8878) of raw blocks and, between them, RLE blocks of zeros. Its window is 128 KiB."""
    file.write(b"\x28\xb5\x2f\xfd" + bytes([0, (17 - 10) << 3]) + zst_block(0, before))
    for _ in range(zeros // ZST_BLOCK):
        file.write(zst_block(1, ZERO, ZST_BLOCK))
    file.write(zst_block(0, behind, last=True))


def zst_block(kind, content, size=None, last=False):
    header = (len(content) if size is None else size) << 3 | kind << 1 | last
    return header.to_bytes(3, "little") + content
