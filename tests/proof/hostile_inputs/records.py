"""Hostile lines of NDJSON, by kind.

Owns: the lines, and whether each is a row, a dead letter or nothing.
Does not own: the values of a row (see decoding.py), lines that are drawn (see mutations.py).
"""
import json

from . import Input
from .decoding import Refused, decode

RECORD_BYTES_MAX = 1 << 20
LETTER_BYTES_MAX = 64 << 10
"""Bytes that a dead letter keeps of a record that is too long."""
ROW, LETTER, NOTHING = "row", "dead letter", "nothing"


def outcome(line, columns):
    """Returns what a line must become, and the values of a row."""
    # Holes of a file are no content.
    content = line.lstrip(b"\0")
    if len(content) > RECORD_BYTES_MAX:
        return LETTER, None
    try:
        values = decode(content, columns)
    except Refused:
        return LETTER, None
    return (NOTHING, None) if values is None else (ROW, values)


def inputs():
    """Gives all of them. Each line that can have an id has one of its own."""
    for kind, expected, lines in KINDS:
        for index, line in enumerate(lines):
            yield Input(kind, line.replace(b"@", b"%d" % (1_000_000 + index)), expected)


def texts(template, values):
    """Returns a line for each value, written as it stands."""
    return [template.replace(b"#", value if isinstance(value, bytes) else value.encode()) for value in values]


def quoted(template, values):
    return texts(template, (json.dumps(value) for value in values))


def many_keys(count):
    return b'{"id":@,%s}' % b",".join(b'"k%d":%d' % (n, n) for n in range(count))


def of_length(length):
    """A good record of so many bytes."""
    begin, end = b'{"id":1000000,"s":"', b'"}'
    return begin + b"y" * (length - len(begin) - len(end)) + end


KINDS = [
    ("bytes that are no UTF-8", LETTER, [
        b'{"id":@,"s":"\xff\xfe"}', b'{"id":@,"kind":"\xc0\xaf"}', b'{"id":@,"s":"\xed\xa0\x80"}', b'{"id":@,"s":"\xf4\x90\x80\x80"}',
        b'{"id":@,"s":"\xe2\x82"}', b'{"id":@,"\x80":1}', b'{"id":@}\xff', b'\xfe{"id":@}', b'{"id":@,"zz":"\xf8\x88\x80\x80\x80"}',
        b'{"id":@,"s":"a\xc3"}', b"\xff" * 1000,
    ]),
    ("UTF-8 at its edges", ROW, quoted(b'{"id":@,"s":#,"di":#,"kind":#}', [
        "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "\U0010ffff", "\ufeff", "e\u0301", "\u202e\u2066",
        "\u2028", "\0", "😀" * 1000,
    ]) + [f'{{"id":@,"s":"{char}"}}'.encode() for char in "\x7f\x80\u07ff\u0800\ufdd0\uffff\U00010000\U0010ffff\ufeff\u2028\u0085\u202e"]),
    ("halves of surrogate pairs", LETTER, [
        rb'{"id":@,"s":"\ud800"}', rb'{"id":@,"s":"\udc00x"}', rb'{"id":@,"\ud800":1}', rb'{"id":@,"v":"\ud83d"}', rb'{"id":@,"v":{"\udfff":1}}',
        rb'{"id":@,"di":"\ude00\ud83d"}', rb'{"id":@,"kind":"\ud83d\ud83d\ude00"}', rb'{"id":@,"t":"\ud800"}', rb'{"id":@,"d":"1\ud800"}',
    ]),
    ("NULs", LETTER, [
        b'{"id":@,"s":"a\0b"}', b'{"id":@}\0', b'{"id":\0@}', b'{\0"id":@}', b'{"id":@,"\0":1}', b'{"id":@}' + b"\0" * 5000,
    ]),
    ("escaped NULs", ROW, [
        rb'{"id":@,"s":"a\u0000b"}', rb'{"id":@,"v":"\u0000"}', rb'{"id":@,"v":{"\u0000":"\u0000"}}', rb'{"id":@,"\u0000":1}',
        rb'{"id":@,"di":"\u0000","kind":"\u0000\u0000"}',
    ]),
    ("holes before a record", ROW, [b"\0" * length + b'{"id":@,"s":"behind a hole"}' for length in (1, 7, 100, 4096, 3 << 20)]),
    ("deep nesting", LETTER, [
        b'{"id":@,"%s":%s}' % (key, value) for key in (b"v", b"zz", b"s") for value in (
            b"[" * 127 + b"]" * 127, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'[{"a":' * 200 + b"1" + b"}]" * 200,
            b"[" * 400_000,
        )
    ] + [b"[" * 500_000, b"{" * 500_000, b'{"id":' * 1000 + b"@" + b"}" * 1000]),
    ("nesting just not too deep", ROW, [
        b'{"id":@,"%s":%s}' % (key, value) for key in (b"v", b"zz") for value in (
            b"[" * 126 + b"]" * 126, b'{"a":' * 126 + b"1" + b"}" * 126, b"[[]," * 125 + b"1" + b"]" * 125, b'"' + b"[" * 10_000 + b'"',
        )
    ]),
    ("lines that are too long", LETTER, [
        of_length(RECORD_BYTES_MAX + 1), of_length(RECORD_BYTES_MAX) + b"\r", of_length(5 << 20), b"x" * (3 << 20), b"\xff" * (2 << 20),
            b'{"id":@,"s":"' + b"\\" * (9 << 20),
    ]),
    ("lines just not too long", ROW, [of_length(RECORD_BYTES_MAX), of_length(RECORD_BYTES_MAX - 1), of_length(RECORD_BYTES_MAX - 1) + b"\r"]),
    ("keys that occur twice", ROW, [
        b'{"id":1,"id":@}', b'{"id":"x","id":@}', b'{"id":@,"s":5,"s":"a"}', b'{"id":@,"v":{"a":1,"a":2}}', b'{"id":@,"s":"a","s":null}',
        rb'{"id":@,"s":"a","\u0073":"b"}', b'{"id":@,"p":{"q":{"r":1}},"p":{"q":{"r":2}}}', b'{"id":@,"p":{"q":{"r":"x"}},"p":{"x.y":"z"}}',
        b'{"id":@,"zz":1,"zz":2}', b"{" + b'"id":1,' * 20_000 + b'"id":@}',
    ]),
    ("keys that occur twice, the last of which does not fit", LETTER, [
        b'{"id":@,"id":"x"}', b'{"id":@,"s":"a","s":5}', b'{"id":@,"id":null}', b'{"id":@,"p":{"q":{"r":1}},"p":5}', b'{"id":@,"u8":1,"u8":256}',
    ]),
    ("integers out of bounds", LETTER, texts(b'{"id":@,"n":#}', [
        "9223372036854775808", "-9223372036854775809", "1e99", "9" * 100_000, "1.5", "1e-1", "-0.5", "1e999999999999", "0.1e-999999999999", "1e19",
    ]) + texts(b'{"id":@,"u8":#}', ["256", "-1", "1e3", "255.5"]) + texts(b'{"id":@,"i8":#}', ["128", "-129", "1e2147483648"])
        + texts(b'{"id":@,"u64":#}', ["18446744073709551616", "-1", "1e20"]) + texts(b'{"id":#}', ["1e99", "9" * 500_000, "0.5", "-1e400"])),
    ("integers at their bounds", ROW, texts(b'{"id":@,"n":#}', [
        "9223372036854775807", "-9223372036854775808", "9.223372036854775807e18", "0e400", "-0", "-0.0", "1" + "0" * 100 + "e-100", "5.000",
        "0." + "0" * 50_000 + "1e50001", "1e18", "10E+17", "0e-999999999999",
    ]) + texts(b'{"id":@,"u8":#}', ["255", "0", "-0", "2.55e2"]) + texts(b'{"id":@,"i8":#}', ["127", "-128", "-1.28e2"])
        + texts(b'{"id":@,"u64":#}', ["18446744073709551615", "1.8446744073709551615e19"]) + texts(b'{"id":#}', ["1000000.0", "1e6", "1000000e0"])),
    ("floats that are none", LETTER, texts(b'{"id":@,"f":#}', [
        "1e999", "-1e999", "NaN", "Infinity", "-Infinity", '"NaN"', "1.7976931348623159e308", "9" * 400, "0x1p3", "1e", "1.e5", ".5", "+1", "nan",
        "1_000", '"1"',
    ]) + texts(b'{"id":@,"f32":#}', ["3.5e38", "-1e39", "1e400", "NaN"])),
    ("floats at their bounds", ROW, texts(b'{"id":@,"f":#}', [
        "-0.0", "-0", "1e-999", "1.7976931348623157e308", "5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
        "0." + "0" * 100_000 + "1", "9" * 300, "123456789012345678901234567890e-20", "9007199254740993", "1E+2", "8.5e-999999999999",
        "0.500000000000000166533453693773481063544750213623046875", "179769313486231570" + "0" * 291,
    ]) + texts(b'{"id":@,"f32":#}', ["3.4028234e38", "1e-60", "1.401298464324817e-45", "16777217"])),
    ("decimals that would lose a digit", LETTER, texts(b'{"id":@,"d":#}', [
        "12345678901.00", "1e1000000000", "1e-1000000000", "NaN", "9999999999.994999", "1.234", '"1.234"', '""', '" 1"', '"1."', '".5"', '"1e400"',
        '"0x1"', '"١"', "[1]",
        "9" * 10_000, '"NaN"', "true",
    ])),
    ("decimals at their bounds", ROW, texts(b'{"id":@,"d":#}', [
        "9999999999.99", "-9999999999.99", "1.2300000", '"1"', '"+1"', '"-0"', '"1e2"', "1e-2", "100e-4", "0e1000000000", "999999999999e-2",
        "0." + "0" * 10_000,
    ])),
    ("dates that are none", LETTER, quoted(b'{"id":@,"dt":#}', [
        "300000-01-01", "2026-02-30", "0000-00-00", "0000-01-01", "-0001-01-01", "", "infinity", "2026-1-1", "+999999-01-01", "2026-01-01T00:00:00Z",
        "2026-00-10", "2026-13-01",
        "1900-02-29", "２０２６-01-01", "2026-01-01 ", "epoch", "10000-01-01", "2026/01/01", "20260101",
    ]) + texts(b'{"id":@,"dt":#}', ["20260101", "[]", "true"])),
    ("times that are none", LETTER, quoted(b'{"id":@,"t":#}', [
        "300000-01-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+99:99", "0000-01-01T00:00:00Z", "-290308-12-21T00:00:00Z", "infinity",
        "2026-01-01",
        "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+0200", "2026-01-01T00:00Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00 UTC",
        "2026-02-29T00:00:00Z",
        "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01",
        "2026-01-01T00:00:00+24:00", "", "0",
        "2026-01-01T00:00:00Z\n", "２０２６-01-01T00:00:00Z", "2026-01-01T00:00:00." + "9" * 10_000 + "X",
    ]) + texts(b'{"id":@,"t":#}', ["5", "1767225600000", "null0", "{}"])),
    ("times at their edges", ROW, quoted(b'{"id":@,"t":#}', [
        "2026-12-31T23:59:60Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-01-01t00:00:00z", "2026-01-01 00:00:00",
        "2026-01-01T00:00:00+02",
        "2024-02-29T00:00:00-23:59", "2026-01-01T00:00:00-00:00", "2026-01-01T00:00:00." + "9" * 10_000 + "Z", "2026-01-01T00:00:60.7Z",
        "0001-01-01T00:00:00-00:01",
        "9999-12-31T23:59:59+00:01",
    ]) + quoted(b'{"id":@,"dt":#}', ["0001-01-01", "9999-12-31", "2000-02-29"])),
    ("times in a wrong unit", LETTER, [
        b'{"id":@,"%s":%d}' % (unit, value) for unit, values in {
            b"ts": (2**63 - 1, -2**63, 253_402_300_800, -62_135_596_801, 1_767_225_600_000),
            b"ms": (2**63 - 1, 253_402_300_800_000, -62_135_596_800_001),
            b"us": (-2**63, 253_402_300_800_000_000, -62_135_596_800_000_001), b"ns": (2**63 - 1, -2**63, 1 - 2**63, 2**63),
        }.items() for value in values
    ]),
    ("times in the last unit that fits", ROW, [
        b'{"id":@,"%s":%d}' % (unit, value) for unit, values in {
            b"ts": (253_402_300_799, -62_135_596_800, 0, -1), b"ms": (253_402_300_799_999, -62_135_596_800_000),
            b"us": (253_402_300_799_999_999, -62_135_596_800_000_000),
            b"ns": (2**63 - 2, 2 - 2**63),
        }.items() for value in values
    ]),
    ("keys that are odd", ROW, [
        b'{"":1,"id":@}', b'{"id":@,"v":{"":{"":{}}}}', b'{"id":@,"":{"":[]}," ":1}', rb'{"\u0069d":@}', b'{"id":@,"__proto__":{"id":1}}',
        b'{"id":@,"id ":1,"ID":2," id":3}',
        b'{"id":@,"p.q.r":5,"p.x.y":"z"}', b'{"id":@,"p":{"q.r":5}}', b'{"id":@,"p":{"x":{"y":"z"},"x.y":"w"}}', b'{"id":@,"p":{"":{"r":5}}}',
        rb'{"id":@,"\"":1,"\\":2}',
    ]),
    ("very many keys, very long keys", ROW, [
        many_keys(50_000), b'{"id":@,"' + b"k" * 500_000 + b'":1}', b'{"' + b"id" * 250_000 + b'":1,"id":@}',
            b'{"id":@,"v":' + b'{"a":[' * 60 + b"]}" * 60 + b"}",
        b'{"id":@,"v":[' + b"1," * 200_000 + b"1]}", b'{"id":@,"s":"' + rb"\u00e9" * 100_000 + b'"}', b'{"id":@' + b',"s":"x"' * 50_000 + b"}",
        b'{"id":@,"s":"' + b'\\"' * 400_000 + b'"}',
    ]),
    ("no objects", LETTER, [
        b"1", b"null", b"[]", b'"x"', b"true", b'[{"id":@}]', b"{}", b"-", b"{", b"}", b'{"id"}', b'{"id":}', b"[", b"]", b'"', b"\\", b"id=1",
        b"<id>1</id>", b"id\t1", b"---", b"nul",
    ]),
    ("byte order marks and other encodings", LETTER, [
        b'\xef\xbb\xbf\xef\xbb\xbf{"id":@}', b' \xef\xbb\xbf{"id":@}', '{"id":1}'.encode("utf-16-le"), '{"id":1}'.encode("utf-16-be"),
        '{"id":1}'.encode("utf-16"), '{"id":1}'.encode("utf-32"),
        '{"id":1,"s":"é"}'.encode("latin-1"), b'+AHsAIgBpAGQAIgA6ADEAfQ-', '{"id":1,"s":"日本"}'.encode("shift_jis"), b'\xef\xbb{"id":@}',
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0",
        b"\x28\xb5\x2f\xfd\x20\0\x01\0\0", b"Obj\x01\x04\x14avro.codec", b"PAR1",
    ]),
    ("white space around a record", ROW, [
        b'\xef\xbb\xbf{"id":@}', b'  \t{"id":@}\t  ', b'{"id":@}\r', b'{"id":@}\r\r', b'{\r"id"\r:\r@\r}', b"{" + b" " * 500_000 + b'"id":@}',
        b'{"id":@}' + b"\t" * 100_000,
    ]),
    ("white space that is none", LETTER, [
        b'{"id":@}\r{"id":2}', b"\x0b", b"\x0c", b'\x0b{"id":@}', b'\xc2\xa0{"id":@}', b'{"id":@}\x0c', b'{"id":\xe3\x80\x80@}', b'{"id":@}\x1a',
        b'\x00\x0b{"id":@}', b'{"id":@}\xe2\x80\xa8',
    ]),
    ("blank lines", NOTHING, [b"", b" ", b"\t", b"\r", b" \t \r", b" " * 500_000, b"\xef\xbb\xbf", b"\0\0\0\0"]),
    ("control characters", LETTER, [b'{"id":@,"s":"%c"}' % code for code in range(1, 32) if code != 10] + [b'{"id":@,"%c":1}' % code for code in (1,
    9, 27)]),
    ("two records in a line", LETTER, [
        b'{"id":@} {"id":2}', b'{"id":@}{"id":2}', b'{"id":@},', b',{"id":@}', b'{"id":@};', b'{"id":@} 1', b'1 {"id":@}', b'{"id":@},{"id":2}',
        b'[{"id":@},', b'{"id":@}]', b'{"id":@}null',
        b'\x1e{"id":@}', b'data: {"id":@}',
    ]),
    ("what is nearly JSON", LETTER, [
        b"{'id':@}", b'{"id":@,}', b"{id:@}", b'{"id":@', b'{"id":0@}', b'{"id":+@}', b'{"id":0x3e9}', b'{"id":@}//c', b'{"id":@ /*c*/}',
        b'{"id":@.}', rb'{"id":@,"s":"\x41"}', rb'{"id":@,"s":"\u00g0"}',
        b"}", b'{"id":@}}', b'{"id":@,"zz":tru}', b'{"id":@,"zz":01}', rb'{"id":@,"zz":"\q"}', b'{"id":@,,"zz":1}', b'{,"id":@}', b'{"id" @}',
        b'{"id"::@}', b'{"id":@ "zz":1}', b'{"id":@,"zz":[1,]}',
        b'{"id":@,"zz":[,1]}', b'{"id":@,"zz":True}', b'{"id":@,"zz":undefined}', b'{"id":@,"zz":- 1}', b'{"id":@,"zz":1.2.3}',
        rb'{"id":@,"zz":"\u12"}', rb'{"id":@,"zz":"\U0001F600"}', b'{"id":@,"zz":--1}',
        b'{"id":@,"zz":"a"b"}', b'{"id":@,"zz":00}', b'{"id":@,"zz":1e+}', b'{"id":@,"zz":"}', b'{"id":@;"zz":1}', b'{"id"=@}', b'("id":@)',
        '{“id”:1}'.encode(), rb'{"id":@,"s":"\'"}', b'{"id":@,"zz":NaN}',
    ]),
    ("values of another type", LETTER, [
        b'{"id":@,"b":0}', b'{"id":@,"b":"true"}', b'{"id":@,"s":5}', b'{"id":"1001"}', b'{"id":null}', b'{"id":true}', b'{"id":{}}', b'{"id":[]}',
        b'{"id":@,"kind":[]}', b'{"id":@,"di":{}}', b'{"id":@,"di":1}',
        b'{"id":@,"f":"1"}', b'{"id":@,"n":"1"}', b'{"id":@,"n":[1]}', b'{"id":@,"u8":true}', b'{"id":@,"dt":0}',
        b'{"id":@,"ms":"2026-01-01T00:00:00Z"}', b'{"id":@,"s":true}', b'{"id":@,"b":[]}', b'{"zz":@}',
    ]),
    ("objects that are none on the way of a path", LETTER, [
        b'{"id":@,"p":5}', b'{"id":@,"p":[]}', b'{"id":@,"p":"{}"}', b'{"id":@,"p":{"q":5}}', b'{"id":@,"p":{"q":[{"r":1}]}}',
        b'{"id":@,"p":{"q":{"r":"5"}}}', b'{"id":@,"p":{"x.y":5}}', b'{"id":@,"p":true}',
    ]),
    ("paths that lead nowhere", ROW, [
        b'{"id":@,"p":null}', b'{"id":@,"p":{}}', b'{"id":@,"p":{"q":null}}', b'{"id":@,"p":{"q":{}}}', b'{"id":@,"p":{"q":{"r":null}}}',
        b'{"id":@,"p":{"q":{"r":5},"x.y":"z"}}', b'{"id":@,"p":{"r":5}}',
    ]),
    ("escapes for a terminal", LETTER, [
        b"\x1b]0;pwn\x07\x1b[2J", rb'{"id":"\u001b[2J\u202e\u009b31m"}', b'{"id":@,"s":"\x1b[31m"}', "\x9b31mx".encode(),
        rb'{"id":"\u0007\u0008\u007f"}', "{\u202e}".encode(), b"\x1bP+q544e\x1b\\",
    ]),
]
"""Kind, what its lines must become, and the lines: `@` is a number of their own, `#` a value."""
