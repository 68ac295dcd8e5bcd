"""Hostile bodies of requests, by kind: compressed, JSON and Arrow.

Owns: the bodies, the answers that are right, and the records that are accepted with 200.
Does not own: what is around a body (see requests.py), sending it (see hostile_clients.py).
"""
import gzip
import io
import json
import struct
import zlib

import pyarrow as pa

from too_much import write_gz, zst_block

from . import Input
from .files import gzipped
from .requests import CLOSED, lines, request, sent, take

JSON, ARROW = b"application/json", b"application/vnd.apache.arrow.stream"
GZIP, ZSTD = b"Content-Encoding: gzip", b"Content-Encoding: zstd"
SCHEMA = pa.schema([("id", pa.int64()), ("kind", pa.string())])
ZST_MAGIC = b"\x28\xb5\x2f\xfd"
OF_EACH = 100


def inputs(draw):
    for part in (bombs, rejected, compressed, ndjson, json_bodies, arrow_lies, arrow_schemas, arrow_drawn, gzip_drawn):
        yield from part(draw)


def bomb(*pieces):
    """Returns a gzip of pieces, each so many times, that is made in no time."""
    def make():
        file = io.BytesIO()
        write_gz(file, pieces)
        return file.getvalue()
    return make


def late(make, *headers, **how):
    """Returns a request whose body is made when it is sent."""
    return lambda: sent(make(), *headers, **how)


def bombs(draw):
    kind, mib = "bodies that become too much", 1 << 20
    # Of many at once not each is read to its end: who still sends when it is refused may see the connection end instead of the answer.
    too_much = (413, 0)
    for byte in (b" ", b"\n", b"\0", b"x", b"["):
        yield Input(kind, request(late(bomb((byte * mib, 300)), GZIP)), too_much)
        yield Input(kind, request(late(bomb((byte * mib, 300)), GZIP, kind=JSON)), too_much)
    yield Input(kind, request(late(bomb((b"\n" * mib, 30)), GZIP)), (200,))
    yield Input(kind, request(late(bomb((b"[" * mib, 30)), GZIP, kind=JSON)), (400,))
    yield Input(kind, request(late(bomb((b"{}\n" * 100_000, 1)), GZIP), letters=100_000), (200,))
    yield Input(kind, request(late(bomb((b"[", 1), (b"1," * 100_000, 2), (b"1]", 1)), GZIP, kind=JSON), letters=200_001), (200,))
    rle = ZST_MAGIC + bytes([0, (17 - 10) << 3]) + zst_block(1, b" ", 128 << 10) * 3000 + zst_block(0, b"", last=True)
    yield Input(kind, request(sent(rle, ZSTD)), too_much)
    yield Input(kind, request(late(lambda: gzipped(bomb((b" " * mib, 300))()), GZIP), letters=None), (200,))


def rejected(draw):
    kind, switch = "requests of which everything is rejected", {"settings": (("dead_letters.ratio_max", 0.1),)}
    for body, times, of in ((b"{}\n", 400_000, b"application/x-ndjson"), (b"x\n", 20_000, b"application/x-ndjson"), (b"1,", 300_000, JSON)):
        pieces = ((b"[", 1), (body * 1000, times // 1000), (b"1]", 1)) if of == JSON else ((body * 1000, times // 1000),)
        yield Input(kind, request(late(bomb(*pieces), GZIP, kind=of), letters=times + (of == JSON), **switch), (200,))


def compressed(draw):
    kind = "bodies that are not compressed as they say"
    ids = take()
    whole = gzipped(lines(ids))
    for body in (
        whole[:-9], whole[:5], whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], whole + b"garbage", b"", lines(ids), whole[1:],
        b"\x1f\x8b" + b"\0" * 100, whole[:-4] + b"\xff" * 4, gzipped(b"")[:12],
    ):
        yield Input(kind, request(sent(body, GZIP)), (400,))
    for body in (
        whole, lines(ids), b"", ZST_MAGIC, ZST_MAGIC + bytes([0, 0xA8, 1, 0, 0]),
        ZST_MAGIC + bytes([0xE0]) + struct.pack("<Q", 1 << 60) + b"\x01\0\0", ZST_MAGIC + b"\xff" * 50, b"\x50\x2a\x4d\x18\xff\xff\xff\x7f",
        ZST_MAGIC + bytes([0, 0x38]) + zst_block(2, b"\xff" * 20, last=True), ZST_MAGIC + bytes([0, 0x38]) + zst_block(3, b"", last=True),
        ZST_MAGIC + bytes([0x03, 0x38]) + b"\x01\0\0\0\x01\0\0",
    ):
        yield Input(kind, request(sent(body, ZSTD)), (400, 413))
    ids = take(2)
    members = gzipped(lines(ids[:1])[:10]) + gzipped(lines(ids[:1])[10:]) + gzipped(b"") * 50 + gzipped(lines(ids[1:]))
    yield Input(kind, request(sent(members, GZIP), ids=ids), (200,))
    # A gzip without a header that says so is no record, and not unpacked unasked.
    yield Input(kind, request(sent(whole), letters=None), (200, 400))


def ndjson(draw):
    kind = "NDJSON with lines that are none"
    for bad, letters in (
        (b'{"id":\n', 1), (b'{"id":"no"}\n', 1), (b'{"id":1,"kind":"\xff"}\n', 1), (b"\0\n", None), (b"[" * 10_000 + b"\n", 1),
        (b'{"id":1,"zz":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", 1), (b"\n\r\n \n", 0), (b"x\n" * 500, 500), (b'{"kind":"no id"}\n', 1),
        (b'{"id":7,"kind":"' + b"y" * (1 << 20) + b'"}\n', 1), (b"\xef\xbb\xbf\n", 0), (b'{"id":null}\n', 1), (b"{}{}\n", 1), (b"\x0b\n", 1),
    ):
        ids = take(4)
        yield Input(kind, request(sent(lines(ids[:2]) + bad + lines(ids[2:])), ids=ids, letters=letters), (200,))
    ids = take(1)
    yield Input(kind, request(sent(lines(ids)[:-1]), ids=ids), (200,))
    yield Input(kind, request(sent(b'{"id":5'), letters=1), (200,))


def json_bodies(draw):
    kind = "JSON bodies that are none"
    for body in (
        b"", b"[", b"]", b"[1", b"[{]", b"{", b'{"id":1}{"id":2}', b'[{"id":1},]', b"[,]", b"nul", b"\xff", b"[\xff]", b'{"id":1}\n{"id":2}\n',
        b"[" * 100_000, b"[1]]", b'"', b'{"id":1', b"\0", b"[1 2]", b"'[]'", b"\xef\xbb\xbf", b'[{"id":"\xed\xa0\x80"}]', "[1]".encode("utf-16"),
        b"[1],[2]", b'[{"id":1}', b"[NaN]", b"[01]", b"[1]//",
    ):
        yield Input(kind, request(sent(body, kind=JSON)), (400,))
    kind = "JSON bodies of no records"
    for body, letters in (
        (b"[1,null,[],\"x\",true]", 5), (b"null", 1), (b"1", 1), (b'"x"', 1), (b"{}", 1), (b"[{}]", 1), (b"[]", 0), (b"[[]]", 1),
        (b'[[{"id":1}]]', 1), (b'{"events":[{"id":1}]}', 1),
    ):
        yield Input(kind, request(sent(body, kind=JSON), letters=letters), (200, 400))
    ids = take(2)
    yield Input(kind, request(sent(b'[{"id":%d},%s,{"id":%d}]' % (ids[0], b"[" * 10_000 + b"]" * 10_000, ids[1]), kind=JSON), ids=ids, letters=1),
        (200, 400))
    ids = take(2)
    pretty = json.dumps([{"id": id, "kind": "a\n\r\u2028{"} for id in ids], indent=4, ensure_ascii=False).replace("\n", "\r\n").encode()
    yield Input(kind, request(sent(pretty, kind=JSON), ids=ids), (200,))


def arrow(ids, kinds=None, schema=SCHEMA, **options):
    file = io.BytesIO()
    with pa.ipc.new_stream(file, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(pa.record_batch([pa.array(ids, schema.field(0).type), pa.array(kinds or ["hqq"] * len(ids), schema.field(1).type)],
            schema=schema))
    return file.getvalue()


def arrow_lies(draw):
    kind = "Arrow streams that lie"
    whole = arrow(take())
    offsets = struct.pack("<4i", 0, 3, 6, 9)
    changed = [whole.replace(offsets, struct.pack("<4i", *lie)) for lie in ((0, 5, 2, 1_000_000), (0, -5, 2, 9), (0, 3, 6, 2**31 - 1),
        (-2**31, 3, 6, 9), (9, 6, 3, 0), (0, 3, 6, 10))]
    changed += [
        whole.replace(b"hqqhqqhqq", b"h\xff\xfehqqhqq"), b"\xff\xff\xff\xff\xff\xff\xff\x7f" + whole[8:], b"\xff\xff\xff\xff\xf0\xff\xff\xff",
        whole[8:], b"ARROW1\0\0" + whole, b"\0" * 1000, b"{}", whole[:8], whole[:-9],
    ]
    for size in (8, 16, 24, 64):
        changed.append(whole.replace(struct.pack("<q", size), struct.pack("<q", 2**62)))
    zipped = arrow(list(range(2_100_000, 2_101_000)), compression="zstd")
    changed.append(zipped.replace(struct.pack("<q", 8000), struct.pack("<q", 2**40)))
    for body in changed:
        yield Input(kind, request(sent(body, kind=ARROW)), None)
    yield Input(kind, request(sent(b"", kind=ARROW)), (400, 200))


def arrow_schemas(draw):
    kind = "Arrow streams of other schemas"
    for schema in (
        [("id", pa.int64()), ("kind", pa.int64())], [("id", pa.string()), ("kind", pa.string())], [("kind", pa.string()), ("zz", pa.int64())],
        [("id", pa.list_(pa.int64())), ("kind", pa.string())], [("id", pa.struct([("id", pa.int64())])), ("kind", pa.string())],
        [("id", pa.float64()), ("kind", pa.string())], [("id", pa.null()), ("kind", pa.null())], [("ID", pa.int64()), ("KIND", pa.string())],
    ):
        columns = [pa.nulls(3, type) for _, type in schema]
        yield Input(kind, request(sent(arrow_of(columns, schema), kind=ARROW)), (400,))
    yield Input(kind, request(sent(arrow_of([], []), kind=ARROW)), (400,))
    twice = [("id", pa.int64()), ("id", pa.int64()), ("kind", pa.string())]
    yield Input(kind, request(sent(arrow_of([pa.nulls(3, type) for _, type in twice], twice), kind=ARROW)), (400,))
    yield Input(kind, request(sent(arrow_of([pa.nulls(2**31 - 1)], [("id", pa.null())]), kind=ARROW)), (400, 413))
    yield Input(kind, request(sent(arrow_of([pa.nulls(3, pa.int64()), pa.nulls(3, pa.string())], [("id", pa.int64()), ("kind", pa.string())]),
        kind=ARROW), letters=3), (200,))
    ids = take()
    wide = [("id", pa.int64()), ("kind", pa.string()), *((f"c{n}", pa.int8()) for n in range(2_000))]
    yield Input(kind, request(sent(arrow_of([pa.array(ids), pa.nulls(3, pa.string()), *[pa.nulls(3, pa.int8())] * 2_000], wide), kind=ARROW),
        ids=ids), (200, 400))
    deep = pa.int8()
    for _ in range(60):
        deep = pa.list_(deep)
    yield Input(kind, request(sent(arrow_of([pa.array([1]), pa.nulls(1, deep)], [("id", pa.int64()), ("zz", deep)]), kind=ARROW)), (400,))


def arrow_of(columns, schema):
    file = io.BytesIO()
    with pa.ipc.new_stream(file, pa.schema(schema)) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=pa.schema(schema)))
    return file.getvalue()


def arrow_drawn(draw):
    for number in range(OF_EACH):
        # No two are alike but for a byte: one that is changed must not become another.
        ids = tuple(id * 0x0101_0101_0101 for id in take(20))
        changed = bytearray(arrow(ids, compression=(None, "zstd", "lz4")[number % 3] if number % 2 else None))
        for _ in range(draw.choice((1, 1, 2, 8))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        yield Input("drawn: Arrow bytes changed", request(sent(bytes(changed), kind=ARROW), ids=ids), None)
    for _ in range(OF_EACH // 4):
        whole = arrow(take(20))
        yield Input("drawn: Arrow streams cut", request(sent(whole[:draw.randrange(1, len(whole) - 8)], kind=ARROW)), None)


def gzip_drawn(draw):
    for _ in range(OF_EACH // 2):
        ids = take(20)
        changed = bytearray(gzipped(lines(ids)))
        # Not in the head: there it may well be a name or a time, which nobody looks at.
        changed[draw.randrange(10, len(changed))] ^= 1 << draw.randrange(8)
        whole = is_whole(bytes(changed), lines(ids))
        yield Input("drawn: compressed bytes changed", request(sent(bytes(changed), GZIP), ids=ids), (200,) if whole else (400, CLOSED))


def is_whole(archive, content):
    """Returns whether a gzip is still one of this content: some bits of it are not used."""
    try:
        return gzip.decompress(archive) == content
    except (OSError, EOFError, zlib.error):
        return False


def arrow_rows(body):
    """Returns the rows (id, kind) of an Arrow stream as pyarrow reads them; `None` if it does not, or if they are no such rows."""
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
        return list(zip(table["id"].to_pylist(), table["kind"].to_pylist()))
    except (pa.ArrowException, KeyError, UnicodeDecodeError, OSError):
        return None
