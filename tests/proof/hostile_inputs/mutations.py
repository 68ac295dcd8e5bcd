"""Hostile lines of NDJSON that are drawn: what they must become follows from decoding.py alone.

Owns: good records, and the rules by which others are made of them.
Does not own: lines that were thought up (see records.py).
"""
import json
import random
from itertools import accumulate

from . import Input

OF_EACH = 100
ODD_CHARACTERS = [
    0, 7, 8, 9, 0x1B, 0x22, 0x2F, 0x5C, 0x7F, 0x85, 0xA0, 0x301, 0x61C, 0x200B, 0x200D, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F600,
    0xE0001, 0x10FFFF,
]
STRUCTURE = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\0", b"\r", b" ", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"null", b"0", b"-", b"e9", rb"\u",
    rb"\ud800",
]
INTEGER_BITS = {
    "n": (63, True), "i8": (7, True), "u8": (8, False), "u64": (64, False), "ts": (38, True), "ms": (48, True), "us": (58, True),
    "ns": (63, True),
}


def good(id, drawn):
    """Returns a record with each declared column, which is good whatever was drawn."""
    word = lambda: "".join(drawn.choice("abcdefghij éß日😀\"\\/") for _ in range(drawn.randrange(1, 12)))
    return json.dumps({
        "id": id, "kind": drawn.choice(["good", "fine", None]), "n": drawn.randrange(-2**63, 2**63), "i8": drawn.randrange(-128, 128),
        "u8": drawn.randrange(256),
        "u64": drawn.randrange(2**64), "f": drawn.uniform(-1e9, 1e9), "f32": drawn.randrange(2**24) / 8,
        "d": f"{drawn.randrange(-10**11, 10**11)}e-2",
        "s": word(), "di": drawn.choice(["one", "two"]), "b": drawn.random() < 0.5, "v": {"a": [1, word(), None], "b": {"c": drawn.random()}},
        "t": f"20{drawn.randrange(10, 99)}-0{drawn.randrange(1, 9)}-11T1{drawn.randrange(9)}:00:00.{drawn.randrange(10**6):06}+02:00",
        "dt": f"19{drawn.randrange(10, 99)}-12-31", "ts": drawn.randrange(2**31), "ms": drawn.randrange(2**41), "us": drawn.randrange(2**51),
        "ns": drawn.randrange(2**61),
        "p": {"q": {"r": drawn.randrange(100)}, "x.y": word()}, "ignored": [word()],
    }, ensure_ascii=drawn.random() < 0.5).encode()


def inputs(seed):
    for rule in (flipped, cut, inserted, removed, spliced, integers, decimals, floats, texts, nested, times, swapped):
        drawn = random.Random(f"{seed} {rule.__name__}")
        for index in range(OF_EACH):
            line = rule(good(2_000_000 + index, drawn), drawn)
            yield Input(f"drawn: {rule.__doc__}", line.replace(b"\n", b" "))


def flipped(line, drawn):
    """bits turned over"""
    changed = bytearray(line)
    for _ in range(drawn.choice((1, 1, 2, 5))):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


def cut(line, drawn):
    """a record that ends anywhere"""
    return line[:drawn.randrange(1, len(line))]


def inserted(line, drawn):
    """something put between two bytes"""
    at = drawn.randrange(len(line))
    return line[:at] + drawn.choice(STRUCTURE) + line[at:]


def removed(line, drawn):
    """bytes taken out"""
    at = drawn.randrange(len(line))
    return line[:at] + line[at + drawn.choice((1, 1, 2, 10)):]


def spliced(line, drawn):
    """one record that goes on as another"""
    other = good(3_000_000, drawn)
    return line[:drawn.randrange(len(line))] + other[drawn.randrange(len(other)):]


def with_value(line, key, value):
    """Returns a record with another value, as it stands, behind all others: so it counts."""
    return line.removesuffix(b"}") + b',"%s":%s}' % (key.encode(), value.encode())


def integers(line, drawn):
    """integers around the bounds of their types"""
    key, (bits, signed) = drawn.choice(list(INTEGER_BITS.items()))
    value = (drawn.choice((0, 2**bits, -2**bits if signed else 0, 10**19, 62_135_596_800)) + drawn.randrange(-2, 3)) * drawn.choice((1, 1, 1, -1))
    return with_value(line, key, spelled(value, drawn))


def spelled(value, drawn):
    """Returns an integer, written in one of many ways."""
    places = drawn.randrange(1, 30)
    sign, digits = "-" if value < 0 else "", str(abs(value))
    return drawn.choice((f"{value}", f"{value}.{'0' * places}", f"{value}{'0' * places}e-{places}", f"{value}E+0", f"{sign}0.{digits}e{len(digits)}",
    f"{value}.{'0' * places}1"))


def decimals(line, drawn):
    """decimals of many digits"""
    digits = "".join(drawn.choice("0123456789") for _ in range(drawn.choice((9, 10, 11, 12, 13))))
    number = f"{drawn.choice(('', '-'))}{int(digits)}{drawn.choice(('', '.5', '.25', '.125', '.990', '.999', 'e-2', 'e-3', 'e1'))}"
    return with_value(line, "d", drawn.choice((number, f'"{number}"')))


def floats(line, drawn):
    """floats of many digits and odd exponents"""
    digits = "".join(drawn.choice("0123456789") for _ in range(drawn.choice((1, 16, 17, 18, 40))))
    exponent = drawn.choice((0, 22, 23, 290, 307, 308, 400, -22, -23, -308, -324, -345, -400))
    return with_value(line, "f", f"{drawn.choice(('', '-'))}{int(digits)}.{digits}e{exponent}")


def texts(line, drawn):
    """texts of odd characters, escaped and not"""
    text = "".join(chr(drawn.choice(ODD_CHARACTERS)) for _ in range(drawn.randrange(1, 30)))
    return with_value(line, drawn.choice(("s", "di", "kind", "v", "x")), json.dumps(text, ensure_ascii=drawn.random() < 0.5))


def nested(line, drawn):
    """values nested at random, with a fault or not"""
    closing, opening = [], []
    for _ in range(drawn.choice((3, 60, 125, 126, 127, 140))):
        array = drawn.random() < 0.5
        opening.append("[" if array else '{"k":')
        closing.append("]" if array else "}")
    if drawn.random() < 0.2:
        closing[drawn.randrange(len(closing))] = drawn.choice("]}")
    return with_value(line, drawn.choice(("v", "x", "p")), "".join(opening) + "1" + "".join(reversed(closing)))


def times(line, drawn):
    """times with parts that are odd"""
    parts = [
        drawn.choice(("2024", "0001", "9999", "1900")), drawn.choice(("01", "02", "12")), drawn.choice(("01", "29", "31")),
        drawn.choice(("00", "23")), drawn.choice(("00", "59")), drawn.choice(("00", "59", "60")),
    ]
    if drawn.random() < 0.3:
        parts[drawn.randrange(6)] = drawn.choice(("0000", "00", "13", "24", "32", "60", "61", "1", "+1"))
    joined = "".join(part + join for part, join in zip(parts, ("-", "-", drawn.choice("TTT t_"), ":", ":", "")))
    text = joined + drawn.choice(("", ".5", ".123456789", ".")) + drawn.choice(("", "Z", "Z", "z", "+00:00", "-23:59", "+14", "+24:00", "+1:00",
        "Zulu"))
    return with_value(line, drawn.choice(("t", "t", "t", "dt")), json.dumps(text if drawn.random() < 0.8 else text[:10]))


def swapped(line, drawn):
    """the pieces of a record in another order"""
    places = sorted(drawn.sample(range(len(line)), 3))
    pieces = [line[begin:end] for begin, end in zip([0, *places], [*places, len(line)])]
    drawn.shuffle(pieces)
    return b"".join(pieces)


def neighbours(count, seed, first=1):
    """Gives good records with ids from `first` on."""
    drawn = random.Random(f"{seed} neighbours")
    return [good(first + index, drawn) for index in range(count)]


def places(lines):
    """Returns where each line begins."""
    return [0, *accumulate(len(line) + 1 for line in lines)][:-1]
