"""Hostile requests to the HTTP source, by kind: from the connection up to the head. What is in the bodies is in bodies.py.

Owns: what goes over each connection, the answers that are right, and the records that are accepted with 200.
Does not own: sending it (see hostile_clients.py).
"""
import struct
from dataclasses import dataclass, field
from itertools import count

from . import Input

HALF_CLOSE, RESET = "half close", "reset"
"""Steps beside bytes and seconds to wait: the client ends its side; it ends the connection without a word."""
CLOSED = 0
"""As a status: the connection is closed without an answer."""
ID = count(1_000_000)


@dataclass(frozen=True)
class Request:
    steps: tuple
    """What is done on the connection: bytes, what makes them, seconds to wait, or one of the words above."""
    ids: tuple = ()
    """Of its records that become rows if it is accepted."""
    letters: int = 0
    """How many become dead letters then."""
    connections: int = field(default=1, kw_only=True)
    """How many do this at the same time."""
    silent: bool = field(default=False, kw_only=True)
    """They ask nothing, and stay."""
    admin: bool = field(default=False, kw_only=True)
    """To the admin server."""
    settings: tuple = field(default=(), kw_only=True)
    """Of the process that it is given to, beside the usual ones."""


def take(number=3):
    return tuple(next(ID) for _ in range(number))


def lines(ids):
    return b"".join(b'{"id":%d,"kind":"hostile"}\n' % id for id in ids)


def head(*headers, method=b"POST", path=b"/v1/events", kind=b"application/x-ndjson", host=b"127.0.0.1"):
    usual = [(b"Host: " + host) if host is not None else None, (b"Content-Type: " + kind) if kind is not None else None, b"Connection: close"]
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", *(line for line in usual if line), *headers, b"", b""])


def sent(body, *headers, **how):
    """Returns a whole request."""
    return head(b"Content-Length: %d" % len(body), *headers, **how) + body


def chunked(*chunks, end=b"0\r\n\r\n", headers=()):
    return head(b"Transfer-Encoding: chunked", *headers) + b"".join(chunks) + end


def chunk(body):
    return b"%x\r\n%s\r\n" % (len(body), body)


def request(*steps, **more):
    return Request(steps, **more)


def plain(name, expected, *headers, **how):
    """Returns an input of a good body under a head that is not."""
    ids = take()
    return Input(name, request(sent(lines(ids), *headers, **how), ids=ids), expected)


def inputs(draw):
    for part in (lengths, chunks, heads, methods, protocols, encodings, keys, broken_off, slow, crowds, admin, drawn):
        yield from part(draw)


def lengths(draw):
    kind = "lengths that lie"
    ids = take()
    yield Input(kind, request(head(b"Content-Length: 9999") + lines(ids), HALF_CLOSE, ids=ids), (400, CLOSED))
    ids = take()
    yield Input(kind, request(head(b"Content-Length: 9999") + lines(ids), ids=ids), (408,))
    ids = take(2)
    # What is behind the body is no further request: the client wanted the connection closed.
    yield Input(kind, request(sent(lines(ids)) + lines(take(1)), ids=ids), (200,))
    for bad in (b"-1", b"999999999999999999999999999999", b"0x10", b"1e3", b"", b" ", b"5 5", b"+5", b"1,2", b"\xff"):
        yield Input(kind, request(head(b"Content-Length: " + bad) + lines(take(1))), (400, CLOSED))
    yield Input(kind, request(head(b"Content-Length: 9223372036854775807")), (413,))
    yield Input(kind, request(head(b"Content-Length: 5", b"Content-Length: 60") + lines(take())), (400, CLOSED))
    ids = take()
    both = head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + chunk(lines(ids)) + b"0\r\n\r\n"
    # RFC 9112, 6.3: the chunks count, and the connection is closed behind them; or it is an error.
    yield Input(kind, request(both, ids=ids), (200, 400, CLOSED))
    yield Input(kind, request(head(b"Transfer-Encoding: gzip") + lines(take())), (400, 501, CLOSED))
    yield Input(kind, request(head(b"Transfer-Encoding: chunked, identity") + lines(take())), (400, 501, CLOSED))
    yield Input(kind, request(lambda: sent(b" " * 17_000_000)), (413,))
    yield Input(kind, request(head() + lines(take())), (200, 400, 411))


def chunks(draw):
    kind = "chunks that lie"
    for bad in (
        b"ZZ\r\nabc\r\n", b"f" * 20 + b"\r\nabc\r\n", b"-1\r\n", b"5;" + b"x" * 100_000 + b"\r\n12345\r\n", b"3\r\nabcd\r\n", b"3\rabc\r\n",
        b"\r\n\r\n", b"0x3\r\nabc\r\n", b"7fffffffffffffff\r\nabc\r\n", b"1 \r\n", b"\xff\r\n", b"5\r\n{",
    ):
        yield Input(kind, request(chunked(bad), HALF_CLOSE), (400, CLOSED))
    yield Input(kind, request(chunked(b"5\r\n{\"id\"", end=b"")), (408,))
    yield Input(kind, request(chunked(end=b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n")), (400, 431, CLOSED))
    ids = take()
    yield Input(kind, request(chunked(*(chunk(bytes([byte])) for byte in lines(ids))), ids=ids), (200,))
    ids = take()
    yield Input(kind, request(chunked(chunk(lines(ids)), end=b""), HALF_CLOSE, ids=ids), (400, CLOSED))
    ids = take()
    yield Input(kind, request(chunked(b"%08x;a=\"b\"\r\n%s\r\n" % (len(lines(ids)), lines(ids))), ids=ids), (200, 400))
    yield Input(kind, request(lambda: chunked(*[chunk(b" " * (1 << 20))] * 17)), (413,))
    yield Input(kind, request(chunked(*[b"1;" + b"e" * 1000 + b"\r\n \r\n"] * 200)), (200, 400, CLOSED))


def heads(draw):
    kind = "heads that are too much"
    for headers in ([b"X: " + b"y" * 1_000_000], [b"X: y"] * 5_000, [b"X" * 70_000 + b": y"], [b"X: " + b"y" * 50_000] * 50):
        yield Input(kind, request(sent(lines(take(1)), *headers)), (400, 431, CLOSED))
    yield Input(kind, request(sent(b"", path=b"/" + b"a" * 200_000)), (400, 414, 431, CLOSED))
    kind = "heads that are none"
    for bad in (b"X: \0", b"X\0: y", b" X: y", b"X : y", b": y", b"X", b"\xff: y", b"X: a\rb", b"Host: x\r\nHost: y", b"X\x01: y"):
        yield Input(kind, request(sent(b"", bad)), (400, 403, CLOSED))
    for bad in (
        b"", b"\r\n\r\n", b"\n\n", b"POST\r\n\r\n", b"POST /v1/events\r\n\r\n", b"POST  /v1/events  HTTP/1.1\r\n\r\n",
        b"POST /v1/events HTTP/9.9\r\n\r\n", b"POST /v1/events HTTP/1.1\n", b"POST /v1\0/events HTTP/1.1\r\n\r\n",
        b"POST /v1/ev\xc3\xa4nts HTTP/1.1\r\n\r\n", b"{\"id\":1}\n", b"\0" * 1000, b"GET / HTTP/1.1\r\nA: b\r\n", b"POST h\xff HTTP/1.1\r\n\r\n",
    ):
        yield Input(kind, request(bad, HALF_CLOSE), (400, 404, CLOSED))


def methods(draw):
    kind = "methods, paths and hosts"
    for method in (b"GET", b"PUT", b"DELETE", b"TRACE", b"OPTIONS", b"PATCH", b"FOO", b"HEAD", b"post"):
        yield plain(kind, (405,), method=method)
    yield Input(kind, request(b"CONNECT x:1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"), (404, 405, 400))
    for path in (
        b"/", b"/v1/events/../../etc/passwd", b"/v1/events/", b"/V1/EVENTS", b"//v1/events", b"/v1/events%00", b"/%2e%2e/", b"/v1/%65vents",
        b"http://evil.example/v1/event", b"*",
    ):
        yield plain(kind, (404, 405, 400), path=path)
    ids = take()
    yield Input(kind, request(sent(lines(ids), path=b"/v1/events?x=" + b"y" * 5_000), ids=ids), (200, 404))
    for host in (b"evil.example", b"127.0.0.1.evil.example", b"localhost.evil", b"[::1", b"a b", b"evil.example:8088", b"\xff"):
        yield plain(kind, (403, 400), host=host)
    for kind_of_body in (
        b"text/plain", b"application/xml", b"", b"application/x-ndjson/x", b"multipart/form-data; boundary=x", b"\xff", b"application/json+x",
        b"x" * 5_000,
    ):
        yield plain("content types", (415, 400), kind=kind_of_body)
    yield plain("content types", (415,), kind=None)


def protocols(draw):
    kind = "other protocols"
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x17" * 500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 50,
        b"GET /v1/events\r\n\r\n", b"SSH-2.0-x\r\n", b"\x04\x01\0\x50\x7f\0\0\x01\0", b"*1\r\n$4\r\nPING\r\n", b"\0\0\0\x2a\0\x12\0\x03",
        b"PUB x 1\r\na\r\n", b"EHLO x\r\n", b"\x80\x2e\x01\x03\x01", b"\xff\xfb\x1f", b"GET / RTSP/1.0\r\n\r\n",
    ):
        yield Input(kind, request(data, HALF_CLOSE), (400, 404, CLOSED))
    ids = take()
    upgrade = sent(lines(ids), b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13")
    yield Input(kind, request(upgrade, ids=ids), (200, 400, 426))
    ids = take()
    yield Input(kind, request(sent(lines(ids)).replace(b"HTTP/1.1", b"HTTP/1.0"), ids=ids), (200,))


def encodings(draw):
    for encoding in (b"br", b"gzip, gzip", b"deflate", b"GZIP2", b"compress", b"gzip;q=1", b"\xff", b"identity, gzip", b"x" * 1000):
        yield plain("content encodings", (415, 400), b"Content-Encoding: " + encoding)


def keys(draw):
    kind = "idempotency keys"
    for key in (b"", b"k" * 257, b"k" * 10_000):
        yield plain(kind, (400, 431), b"Idempotency-Key: " + key)
    for key in (b"\xff\xfe", b"a\tb", b"../../x"):
        yield plain(kind, (200, 400), b"Idempotency-Key: " + key)
    yield plain(kind, (400,), b"Idempotency-Key: a", b"Idempotency-Key: b")
    ids, key = take(), b"Idempotency-Key: K1"
    # The same again is answered as before, and is there once; another one is refused.
    yield Input(kind, request(kept(sent(lines(ids), key)), sent(lines(ids), key), ids=ids), (200,))
    ids, key = take(), b"Idempotency-Key: K2"
    yield Input(kind, request(kept(sent(lines(ids), key)), sent(lines(take()), key), ids=ids), (200, 422))
    ids = take()
    yield Input(kind, request(sent(lines(ids), b"Idempotency-Key: K3"), ids=ids, connections=30), (200, 409, 503))
    # Refused, it may be sent again under its key.
    ids, key = take(), b"Idempotency-Key: K4"
    yield Input(kind, request(kept(sent(b"\xff", key, b"Content-Encoding: gzip")), sent(lines(ids), key), ids=ids), (200, 400))


def kept(data):
    """Returns a request after which the connection stays."""
    return data.replace(b"Connection: close\r\n", b"")


def broken_off(draw):
    kind = "connections that break off"
    whole = sent(lines(take()))
    for _ in range(12):
        yield Input(kind, request(whole[:draw.randrange(1, len(whole) - 1)], RESET), (CLOSED,))
    for _ in range(12):
        yield Input(kind, request(whole[:draw.randrange(1, len(whole) - 1)], HALF_CLOSE), (400, CLOSED))
    yield Input(kind, request(head(b"Content-Length: 500") + b'{"id":', RESET, connections=200, silent=True), (CLOSED,))
    yield Input(kind, request(RESET, connections=200, silent=True), (CLOSED,))


def slow(draw):
    kind = "slow clients"
    ids = take(1)
    body = sent(lines(ids))
    trickle = [step for byte in body for step in (bytes([byte]), 0.05)]
    yield Input(kind, request(*trickle, ids=ids), (200, 408, CLOSED))
    yield Input(kind, request(head(b"Content-Length: 60"), *[b" ", 0.5] * 10), (408, CLOSED))
    yield Input(kind, request(*[step for byte in b"POST /v1/events HTTP/1.1\r\nX: " for step in (bytes([byte]), 0.2)]), (408, CLOSED))
    yield Input(kind, request(head(b"Expect: 100-continue", b"Content-Length: 50")), (408,))
    yield Input(kind, request(b"POST /v1/events HTTP/1.1\r\n"), (408, CLOSED))
    yield Input(kind, request(b""), (CLOSED,))
    ids = take()
    yield Input(kind, request(head(b"Content-Length: %d" % len(lines(ids))), 0.3, lines(ids), ids=ids), (200,))


def crowds(draw):
    kind = "crowds of connections"
    for data in (b"", b"POST /v1/ev", head(b"Content-Length: 90") + b"{", b"\0", b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
        yield Input(kind, request(data, connections=800, silent=True), (CLOSED, 408, 400, 405, 503))
    for data in (b"", b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /healthz HT"):
        yield Input(kind, request(data, connections=200, silent=True, admin=True), (CLOSED, 200, 408, 429, 503))
    yield Input(kind, request(lambda: sent(b'{"id":1}' + b" " * 10_000_000), letters=1, connections=24), (200, 503, CLOSED))


def admin(draw):
    kind = "requests to the admin server"
    close = b"Host: 127.0.0.1\r\nConnection: close\r\n"
    for path in (
        b"/api/checkpoints?limit=99999999999999999999", b"/api/checkpoints?limit=-1", b"/api/checkpoints?limit=%00", b"/api/checkpoints?limit=x",
    ):
        yield Input(kind, request(b"GET " + path + b" HTTP/1.1\r\n" + close + b"\r\n", admin=True), (400, 200))
    for path in (
        b"/%2e%2e/%2e%2e/etc/passwd", b"/../../etc/passwd", b"/api/../../etc/passwd", b"/static/../../../etc/passwd", b"/api", b"/_pintail/KEY",
        b"//etc/passwd", b"/%00",
    ):
        yield Input(kind, request(b"GET " + path + b" HTTP/1.1\r\n" + close + b"\r\n", admin=True), (404, 400))
    for data in (bytes(range(256)) * 20, b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"):
        yield Input(kind, request(data, HALF_CLOSE, admin=True), (400, 404, 414, 431, CLOSED))
    yield Input(kind, request(b"GET /api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", admin=True), (403,))
    query = b"POST /api/query HTTP/1.1\r\n" + close + b"Content-Type: application/json\r\n"
    yield Input(kind, request(query + b"Content-Length: 50000000\r\n\r\n" + b"x" * 1_000_000, admin=True), (400, 413, CLOSED))
    for body in (
        b'{"sql":' + b"[" * 60_000, b'{"sql":1}', b"{}", b"\xff", b"null", b'{"sql":null}', b"", b'{"sql":"SELECT 1"}x', b'{"sql":["SELECT 1"]}',
        rb'{"sql":"\ud800"}', b'{"sql":"SELECT 1","sql":"DROP"}',
    ):
        yield Input(kind, request(query + b"Content-Length: %d\r\n\r\n" % len(body) + body, admin=True), (400, 413, 422))


def drawn(draw):
    kind = "drawn: requests with bytes changed"
    for _ in range(OF_EACH):
        ids = take(1)
        changed = bytearray(sent(lines(ids), b"Accept: */*", b"X-Any: thing"))
        end = changed.index(b"\r\n\r\n")
        for _ in range(draw.choice((1, 2, 4))):
            changed[draw.randrange(end)] = draw.randrange(256)
        yield Input(kind, request(bytes(changed), ids=ids), None)
    kind = "drawn: requests behind each other"
    for _ in range(OF_EACH // 2):
        ids, cut = take(2), draw.randrange(1, 40)
        first = kept(sent(lines(ids[:1])))
        second = sent(lines(ids[1:]))
        yield Input(kind, request(first + second[:-cut], HALF_CLOSE, ids=ids[:1]), (200, 400, CLOSED))


OF_EACH = 40
LINGER = struct.pack("ii", 1, 0)
"""An option of a socket that makes its end a reset."""
