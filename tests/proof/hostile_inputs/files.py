"""Hostile files and whatever else may lie where files are looked for, by kind.

Owns: what lies there, which of it is records, and which of it must wait.
Does not own: the good files beside it and the process (see hostile_files.py).
"""
import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq

from too_much import write_gz

from . import Input

ID = count(1_000_000)
OF_EACH = 20


@dataclass(frozen=True)
class Tree:
    """What lies in a directory: (what, name, argument) each. Files that stand still have an old time."""

    entries: tuple
    ids: tuple = ()
    """Of the records that become rows."""
    letters: int = 0
    waits: bool = False
    """The first entry cannot be read: it is named, and the rest goes on."""
    mended: bytes = b""
    """Put in the place of the first entry later, it is read like any other, and has `ids`."""
    path: str = "in/**/*"
    steps: tuple = ()
    """What is done further while the directory is followed: the same, and seconds to wait."""


def take(number=20):
    return tuple(next(ID) for _ in range(number))


def text_of(id):
    """Returns the text of a record, by which a changed one is found out."""
    return f"{id * 0x9E3779B97F4A7C15 % 2**64:016x}"


def lines(ids):
    return b"".join(b'{"id":%d,"kind":"hostile","text":"%s"}\n' % (id, text_of(id).encode()) for id in ids)


def gzipped(content):
    return gzip.compress(content, mtime=0)


def zstd(content):
    return pa.Codec("zstd").compress(content, asbytes=True)


def file(name, content):
    return ("file", name, content)


def inputs(seed):
    draw = random.Random(f"{seed} files")
    for part in (nodes, links, archives, archives_that_wait, archives_drawn, other_formats, holes, ends, names, numbers, own):
        yield from part(draw)


def followed(seed):
    draw = random.Random(f"{seed} followed")
    for part in (appearing, changing, growing):
        yield from part(draw)


def nodes(draw):
    kind = "what is no file"
    for what, argument in (
        ("directory", None), ("fifo", None), ("socket", None), ("device", (1, 5)), ("device", (1, 3)), ("device", (1, 7)), ("device", (5, 0)),
        ("device", (1, 11)),
    ):
        yield Input(kind, Tree(((what, "m.ndjson", argument),)))
    for target in ("/dev/zero", "/dev/null", "/dev/full", "/dev/tty", "/dev/stdin", "/dev/random"):
        yield Input(kind, Tree((("symlink", "m.ndjson", target),)))
    yield Input(kind, Tree((("symlink", "m.ndjson", "/nowhere"),), waits=True))
    kind = "files that the kernel makes"
    for target in ("/proc/self/mem", "/proc/kmsg", "/proc/self/attr/exec", "/proc/self/maps", "/sys/kernel/mm/ksm/run"):
        yield Input(kind, Tree((("symlink", "m.ndjson", target),), waits=os.path.exists(target)))


def links(draw):
    kind = "links that go round"
    yield Input(kind, Tree((("symlink", "m.ndjson", "m.ndjson"),), waits=True))
    yield Input(kind, Tree((("symlink", "m.ndjson", "n.ndjson"), ("symlink", "n.ndjson", "m.ndjson")), waits=True))
    yield Input(kind, Tree((("symlink", "up", ".."),)))
    yield Input(kind, Tree((("symlink", "here", "."),)))
    yield Input(kind, Tree((("directory", "d", None), ("symlink", "d/up", "../.."), ("symlink", "d/here", "."))))
    yield Input(kind, Tree((("symlink", "m.ndjson", "a-good.ndjson/x"),), waits=True))
    kind = "copies and links of a file"
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids)), ("hardlink", "n.ndjson", "m.ndjson"), ("symlink", "o.ndjson", "m.ndjson"),
        file("p.ndjson", lines(ids))), ids=ids))
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids)), file("m.ndjson.gz", gzipped(lines(ids))), file("m.ndjson.zst", zstd(lines(ids)))), ids=ids))


def archives(draw):
    kind = "archives of an odd form"
    make = {
        ".ndjson": lambda content: gzipped(content), ".gz": lambda content: zstd(content), ".zst": lambda content: gzipped(content),
        ".txt": lambda content: zstd(content), ".log.gz": lambda content: content, ".log.zst": lambda content: content,
        "-zeros.gz": lambda content: gzipped(content) + bytes(5000),
        "-members.gz": lambda content: gzipped(content[:30]) + gzipped(b"") + gzipped(content[30:]),
        "-frames.zst": lambda content: zstd(content[:30]) + b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(content[30:]),
        "-extra.gz": lambda content: b"\x1f\x8b\x08\x1c\0\0\0\0\0\x03\x04\0abcdname\0comment\0" + raw_deflate(content),
    }
    for ending, archive in make.items():
        ids = take()
        yield Input(kind, Tree((file(f"m{ending}", archive(lines(ids))),), ids=ids))
    for name in ("m.gz", "m.zst"):
        yield Input(kind, Tree((file(name, b""),)))
    bomb = io.BytesIO()
    write_gz(bomb, [(bytes(1 << 20), 1000), (b"\n", 1)])
    yield Input(kind, Tree((file("m.gz", bomb.getvalue()),)))


def raw_deflate(content):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(content) + deflate.flush() + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


def archives_that_wait(draw):
    kind = "archives that are damaged"
    for ending, compress in ((".gz", gzipped), (".zst", zstd)):
        ids = take(500)
        whole = compress(lines(ids))
        for bad in (whole[:len(whole) // 2], whole[:-3], whole[:20], whole[:4] + b"\xff" * 8 + whole[12:]):
            yield Input(kind, Tree((file(f"m{ending}", bad),), ids=ids, waits=True, mended=whole))
            ids = take(500)
            whole = compress(lines(ids))
    # Of these zstd frames without a checksum would be read as if nothing was.
    ids = take(500)
    whole = gzipped(lines(ids))
    middle = whole[:len(whole) // 2] + b"\xff" * 20 + whole[len(whole) // 2 + 20:]
    yield Input(kind, Tree((file("m.gz", middle),), ids=ids, waits=True, mended=whole))
    ids = take()
    yield Input(kind, Tree((file("m.gz", gzipped(lines(ids)) + b"garbage!"),), ids=ids, waits=True, mended=gzipped(lines(ids))))
    yield Input(kind, Tree((file("m.zst", b"\x28\xb5\x2f\xfd\0\xa8\x01\0\0"),), waits=True, mended=zstd(b"\n")))
    yield Input(kind, Tree((file("m.gz", b"\x1f\x8b\x08" + bytes(draw.randrange(256) for _ in range(3000))),), waits=True, mended=gzipped(b"\n")))


def archives_drawn(draw):
    kind = "drawn: archives with a byte changed"
    for _ in range(OF_EACH):
        ids = take(200)
        whole = gzipped(lines(ids))
        bad = bytearray(whole)
        bad[draw.randrange(10, len(bad))] ^= 1 << draw.randrange(8)
        yield Input(kind, Tree((file("m.gz", bytes(bad)),), ids=ids, waits=True, mended=whole))
    kind = "drawn: archives that are cut"
    for _ in range(OF_EACH):
        ids = take(200)
        whole = draw.choice((gzipped, zstd))(lines(ids))
        name = "m.gz" if whole.startswith(b"\x1f") else "m.zst"
        yield Input(kind, Tree((file(name, whole[:draw.randrange(5, len(whole) - 1)]),), ids=ids, waits=True, mended=whole))


def other_formats(draw):
    kind = "files of another format"
    table = pa.table({"id": [1, 2]})
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    for write, sink in ((pa.ipc.new_file, arrow), (pa.ipc.new_stream, stream)):
        with write(sink, table.schema) as writer:
            writer.write_table(table)
    content = lines(range(50))
    archives = {name: io.BytesIO() for name in ("zip", "tar")}
    with zipfile.ZipFile(archives["zip"], "w") as archive:
        archive.writestr("m.ndjson", content)
    with tarfile.open(fileobj=archives["tar"], mode="w") as archive:
        member = tarfile.TarInfo("m.ndjson")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    for name, foreign in (
        ("m.bz2", bz2.compress(content)), ("m.xz", lzma.compress(content)), ("m.zip", archives["zip"].getvalue()),
        ("m.tar", archives["tar"].getvalue()), ("m.tar.gz", gzipped(archives["tar"].getvalue())), ("m.parquet", parquet.getvalue()),
        ("m.arrow", arrow.getvalue()), ("m.arrows", stream.getvalue()), ("m.avro", b"Obj\x01\x04\x16avro.schema\n\n"),
        ("m.ndjson", content.decode().encode("utf-16")), ("m.txt", b"\xfe\xff" + content.decode().encode("utf-16-be")),
    ):
        ids = take(5)
        yield Input(kind, Tree((file(name, foreign),), ids=ids, waits=True, mended=lines(ids)))


def holes(draw):
    kind = "files with zeros"
    for before, behind in ((b"", bytes(100_000)), (bytes(100), b""), (bytes(3 << 20), b""), (b"", bytes(3 << 20))):
        ids = take()
        yield Input(kind, Tree((file("m.ndjson", before + lines(ids) + behind),), ids=ids))
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids[:10]) + bytes(5000) + lines(ids[10:])),), ids=ids))
    yield Input(kind, Tree((file("m.ndjson", bytes(3 << 20)),)))
    yield Input(kind, Tree((("sparse", "m.ndjson", 200 << 20),)))


def ends(draw):
    kind = "files with an odd end"
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids)[:-1]),), ids=ids))
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", b"\xef\xbb\xbf" + lines(ids).replace(b"\n", b"\r\n")),), ids=ids))
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids) + b'{"id":5,"kin'),), ids=ids, letters=1))
    ids = take()
    yield Input(kind, Tree((file("m.ndjson", lines(ids) + b"\n" * 100_000 + b" \t \r\n"),), ids=ids))
    yield Input(kind, Tree((file("m.ndjson", b"\n"),)))
    yield Input(kind, Tree((file("m.ndjson", b"x" * (5 << 20)),), letters=1))
    yield Input(kind, Tree((file("m.ndjson", bytes(range(256)) * 40 + b"\n"),), letters=bytes(range(256)).count(b"\n") * 40 + 1))


def names(draw):
    kind = "names that are odd"
    odd = [
        "a\nb.ndjson", "\x1b[2J.ndjson", "[x].ndjson", "*.ndjson", "?", "{a,b}", "x" * 248 + ".ndjson", " .ndjson", "-rf.ndjson",
        "\u202e.ndjson", "é", "e\u0301", "~", "$HOME", "`x`", "a;b", "%2e%2e", "\\", "'", "\"", "x.parquet", "_pintail", "COM1", "\ufeff",
        "a\tb", "\x7f",
    ]
    for name in odd:
        ids = take(3)
        yield Input(kind, Tree((file(name, lines(ids)),), ids=ids))
    deep = "/".join(["d" * 200] * 12)
    ids = take(3)
    yield Input(kind, Tree((("directory", deep, None), file(f"{deep}/m.ndjson", lines(ids))), ids=ids))
    # Shells and globs pass over these.
    yield Input(kind, Tree((file(".hidden", lines(take(3))), file("..x", lines(take(3))))))
    kind = "names that are no UTF-8"
    for name in (b"\xff\xfe.ndjson", b"a\xc3", b"\xed\xa0\x80.ndjson", b"\xff.gz"):
        ids = take(3)
        content = lines(ids)
        yield Input(kind, Tree((file(os.fsdecode(name), gzipped(content) if name.endswith(b"gz") else content),), ids=ids))
    ids = take(3)
    yield Input(kind, Tree((("directory", os.fsdecode(b"d\xff"), None), file(os.fsdecode(b"d\xff/m.ndjson"), lines(ids))), ids=ids))


def numbers(draw):
    kind = "very many files"
    yield Input(kind, Tree(tuple(file(f"e{number}.ndjson", b"") for number in range(3_000))))
    ids = take(1_000)
    yield Input(kind, Tree(tuple(file(f"m{id}.ndjson", lines([id])) for id in ids), ids=ids))
    yield Input(kind, Tree((("directory", "/".join(["d" * 10] * 300), None),)))


def own(draw):
    for path in ("**/*", "./**/*", "in/../**/*", "**/[!.]*"):
        yield Input("the dataset in its own glob", Tree((), path=path))


def appearing(draw):
    kind = "what appears"
    for entry in (
        ("fifo", "f.ndjson", None), ("directory", "x.ndjson", None), ("symlink", "mem", "/proc/self/mem"), ("symlink", "z", "/dev/zero"),
        ("symlink", "up", ".."), ("socket", "s", None),
    ):
        yield Input(kind, Tree((entry,)))
    yield Input(kind, Tree((("symlink", "gone", "/nowhere"),), waits=True))
    for entry in (file(os.fsdecode(b"\xff\xfe"), b"@"), file("a\n\x1b[2J", b"@"), file("long", b"x" * (5 << 20)), file("empty", b"")):
        ids = take(3) if entry[2] == b"@" else ()
        yield Input(kind, Tree(((*entry[:2], lines(ids)) if ids else entry,), ids=ids))
    kind = "what cannot be read"
    yield Input(kind, Tree((("symlink", "l", "l"),), waits=True))
    for name, content in (("q.gz", b"\x1f\x8b\x08" + b"\x55" * 3000), ("q.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 100)):
        yield Input(kind, Tree((file(name, content),), waits=True))
    ids = take(500)
    yield Input(kind, Tree((file("half.gz", gzipped(lines(ids))[:3000]),), ids=ids, waits=True, mended=gzipped(lines(ids))))


def changing(draw):
    kind = "what changes"
    many = [file(f"v{number}", lines(take(3))) for number in range(200)]
    yield Input(kind, Tree((), steps=(*many, *(("remove", name, None) for _, name, _ in many))))
    yield Input(kind, Tree((), steps=tuple(step for _ in range(8) for step in (file("s", lines(take(300))), 0.03,
        ("truncate", "s", draw.randrange(2_000)), 0.03))))
    yield Input(kind, Tree((), steps=(file("w", lines(take(100))), 0.2, ("remove", "w", None), ("directory", "w", None), 0.2, ("rmdir", "w", None),
        ("fifo", "w", None))))
    ids = take(3)
    yield Input(kind, Tree((), ids=ids, steps=(file("r.new", lines(ids)), ("rename", "r.new", "r"), 0.2, ("rename", "r", "r.1"), 0.2,
        ("rename", "r.1", "r.2"))))
    ids = take(300)
    yield Input(kind, Tree((), ids=ids, steps=(file("c", lines(ids)), 0.3, ("rename", "c", "c.old"), file("c", b""), 0.2, ("append", "c", b"\n"))))
    yield Input(kind, Tree((), steps=(file("p", b'{"id":5'), 0.3, ("append", "p", b',"kind":"\n'), 0.2, ("append", "p", b"\0" * 5000), 0.2,
        ("truncate", "p", 0))))


def growing(draw):
    kind = "what grows"
    for compress, name in ((gzipped, "p.gz"), (zstd, "p.zst")):
        ids = take(500)
        whole = compress(lines(ids))
        yield Input(kind, Tree((), ids=ids, steps=(file(name, whole[:1000]), 0.3, ("append", name, whole[1000:3000]), 0.3,
            ("append", name, whole[3000:]))))
    ids = take(3)
    content = lines(ids)
    yield Input(kind, Tree((), ids=ids, steps=(file("b", b""), *(step for byte in content for step in (("append", "b", bytes([byte])), 0.002)))))
    ids = take(3)
    yield Input(kind, Tree((), ids=ids, steps=(("sparse", "h", 50 << 20), 0.3, ("append", "h", b"\n" + lines(ids)))))
