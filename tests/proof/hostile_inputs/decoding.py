"""What a line of NDJSON must become, by RFC 8259, RFC 3339 and the table of types in the documentation. None of it is Pintail's code.

Owns: a strict reader of JSON that keeps the text of each value, the declared columns of the hostile records, and what each type takes.
Does not own: lines that are too long or no content at all (see records.py), what the SQL makes of a row.
"""
import datetime
import json
import re
import struct

DEPTH_MAX = 127
BLANK = b" \t\r"
BYTE_ORDER_MARK = "\ufeff"

WHITE = re.compile(r"[ \t\r]*")
NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
DECIMAL_TEXT = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"')
LITERAL = re.compile(r"true|false|null")
TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d)(?::(\d\d))?)?", re.ASCII)
DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
EPOCH = datetime.datetime(1970, 1, 1)
SECONDS = ((datetime.datetime(1, 1, 1) - EPOCH).days * 86_400, (datetime.date(9999, 12, 31) - EPOCH.date()).days * 86_400 + 86_399)
"""Least and greatest second in the years 1 to 9999."""


class Refused(Exception):
    """The record is a dead letter."""


def decode(line, columns):
    """Returns the values of the columns, `None` for a blank line, or raises `Refused`."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise Refused("not UTF-8") from error
    text = text.removeprefix(BYTE_ORDER_MARK)
    if not text.strip(BLANK.decode()):
        return None
    members, end = Reader(text).members(skip(text, 0), depth=1)
    if skip(text, end) != len(text):
        raise Refused("something behind the object")
    return {column.name: column.take(text, members) for column in columns}


def skip(text, at):
    return WHITE.match(text, at).end()


class Reader:
    """Reads JSON by its grammar and nothing more: values stay text."""

    def __init__(self, text):
        self.text = text

    def members(self, at, depth):
        """Reads an object that begins at `at`. Returns the text of each member's value by key, and where the object ends."""
        if self.text[at:at + 1] != "{":
            raise Refused("not an object")
        found = {}
        for key, start, end, at in self.items(at, depth):
            found[key] = self.text[start:end]
        return found, at

    def items(self, at, depth):
        """Gives key, begin and end of each member, and where what was read so far ends; of an empty object nothing but its end."""
        if depth > DEPTH_MAX:
            raise Refused("too deep")
        at = skip(self.text, at + 1)
        if self.text[at:at + 1] == "}":
            yield "", at, at, at + 1
            return
        while True:
            at = self.match(STRING, at)
            key = unescaped(self.text[self.begin:at])
            start = skip(self.text, self.expect(":", skip(self.text, at)))
            end = self.value(start, depth)
            at = skip(self.text, end)
            if self.text[at:at + 1] == "}":
                yield key, start, end, at + 1
                return
            yield key, start, end, at
            at = skip(self.text, self.expect(",", at))

    def value(self, at, depth):
        """Passes a value inside of `depth` others, and returns its end."""
        first = self.text[at:at + 1]
        if first == "{":
            return list(self.items(at, depth + 1))[-1][-1]
        if first == "[":
            return self.array(at, depth + 1)
        return self.match(STRING if first == '"' else LITERAL if first in ("t", "f", "n") else NUMBER, at)

    def array(self, at, depth):
        if depth > DEPTH_MAX:
            raise Refused("too deep")
        at = skip(self.text, at + 1)
        if self.text[at:at + 1] == "]":
            return at + 1
        while True:
            at = skip(self.text, self.value(at, depth))
            if self.text[at:at + 1] == "]":
                return at + 1
            at = skip(self.text, self.expect(",", at))

    def match(self, pattern, at):
        self.begin, found = at, pattern.match(self.text, at)
        if not found:
            raise Refused(f"no JSON at {at}")
        return found.end()

    def expect(self, token, at):
        if self.text[at:at + 1] != token:
            raise Refused(f"no {token} at {at}")
        return at + 1


def unescaped(text):
    """Returns what a JSON string says; half of a surrogate pair is no character."""
    value = json.loads(text)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused("half of a surrogate pair") from error
    return value


class Column:
    def __init__(self, name, kind, path=None, required=False):
        self.name, self.kind, self.path, self.required = name, kind, path or [name], required

    def setting(self):
        """Returns it as the configuration has it."""
        path = ".".join(f'"{key}"' if "." in key else key for key in self.path)
        return {"name": self.name, "type": self.kind, "required": self.required} | ({"path": path} if self.path != [self.name] else {})

    def take(self, text, members):
        for key in self.path[:-1]:
            inner = members.get(key, "null")
            if inner == "null":
                members = {}
                break
            members, _ = Reader(inner).members(0, depth=1)
        raw = members.get(self.path[-1], "null")
        if raw != "null":
            return READERS[self.kind](raw)
        if self.required:
            raise Refused(f"no {self.name}")
        return None


def scaled(match, places=0):
    """Returns a number, taken apart, as an integer of units of `10^-places`; refuses one that is none, or has more than 40 digits."""
    sign, whole, fraction, exponent = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    exponent = int(exponent or 0) - len(fraction) + places
    stripped = digits.rstrip("0")
    exponent += len(digits) - len(stripped)
    if not stripped:
        return 0
    if exponent < 0 or len(stripped) + exponent > 40:
        raise Refused("a digit would be lost")
    return (-1 if sign == "-" else 1) * int(stripped) * 10**exponent


def whole_match(pattern, raw):
    match = pattern.fullmatch(raw)
    if not match:
        raise Refused(f"{raw[:40]} is none")
    return match


def integer(least, greatest):
    def read(raw):
        value = scaled(whole_match(NUMBER, raw))
        if not least <= value <= greatest:
            raise Refused("out of range")
        return value
    return read


def float64(raw):
    whole_match(NUMBER, raw)
    value = float(raw)
    if value in (float("inf"), float("-inf")):
        raise Refused("no double")
    return value


def float32(raw):
    try:
        return struct.unpack("<f", struct.pack("<f", float64(raw)))[0]
    except OverflowError as error:
        raise Refused("no float") from error


def decimal_12_2(raw):
    value = scaled(whole_match(DECIMAL_TEXT, unescaped(raw)) if raw.startswith('"') else whole_match(NUMBER, raw), 2)
    if abs(value) >= 10**12:
        raise Refused("more than 12 digits")
    return value


def text(raw):
    whole_match(STRING, raw)
    return unescaped(raw)


def boolean(raw):
    return whole_match(re.compile("true|false"), raw)[0] == "true"


def timestamp(raw):
    """Returns microseconds since 1970."""
    *parts, fraction, sign, hours, minutes = whole_match(TIMESTAMP, text(raw)).groups()
    year, month, day, hour, minute, second = map(int, parts)
    leap = second == 60
    try:
        value = datetime.datetime(year, month, day, hour, minute, 59 if leap else second)
    except ValueError as error:
        raise Refused("no such time") from error
    east = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise Refused("no such offset")
    seconds = (value - EPOCH).days * 86_400 + (value - EPOCH).seconds + leap - east
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise Refused("out of the years 1 to 9999")
    return seconds * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))


def date(raw):
    """Returns days since 1970."""
    try:
        return (datetime.date(*map(int, whole_match(DATE, text(raw)).groups())) - EPOCH.date()).days
    except ValueError as error:
        raise Refused("no such day") from error


def json_text(raw):
    for string in STRING.findall(raw):
        unescaped(string)
    return raw


def timestamp_of(units):
    """Reads integers of so many units a second."""
    least, greatest = SECONDS[0] * units, SECONDS[1] * units + units - 1
    if units == 10**9:
        # The ends of 64 bits are DuckDB's infinities.
        least, greatest = max(least, 2 - 2**63), min(greatest, 2**63 - 2)
    return integer(least, greatest)


READERS = {
    "int8": integer(-2**7, 2**7 - 1), "int16": integer(-2**15, 2**15 - 1), "int32": integer(-2**31, 2**31 - 1), "int64": integer(-2**63, 2**63 - 1),
    "uint8": integer(0, 2**8 - 1), "uint16": integer(0, 2**16 - 1), "uint32": integer(0, 2**32 - 1), "uint64": integer(0, 2**64 - 1),
    "float32": float32, "float64": float64, "decimal(12, 2)": decimal_12_2, "text": text, "dictionary": text, "boolean": boolean,
    "timestamp": timestamp, "date": date, "json": json_text,
    "timestamp_s": timestamp_of(1), "timestamp_ms": timestamp_of(10**3), "timestamp_us": timestamp_of(10**6), "timestamp_ns": timestamp_of(10**9),
}

COLUMNS = [
    Column("id", "int64", required=True), Column("kind", "text"), Column("n", "int64"), Column("i8", "int8"), Column("u8", "uint8"),
    Column("u64", "uint64"), Column("f", "float64"), Column("f32", "float32"), Column("d", "decimal(12, 2)"), Column("s", "text"),
    Column("di", "dictionary"), Column("b", "boolean"), Column("v", "json"), Column("t", "timestamp"), Column("dt", "date"),
    Column("ts", "timestamp_s"), Column("ms", "timestamp_ms"), Column("us", "timestamp_us"), Column("ns", "timestamp_ns"),
    Column("deep", "int64", path=["p", "q", "r"]), Column("dotted", "text", path=["p", "x.y"]),
]
"""The declared columns of hostile records: each type once."""

SHOWN = {
    "decimal(12, 2)": "CAST({0} * 100 AS BIGINT)", "timestamp": "epoch_us({0})", "date": "datediff('day', DATE '1970-01-01', {0})",
    "timestamp_s": "epoch_us({0}) // 1000000", "timestamp_ms": "epoch_us({0}) // 1000", "timestamp_us": "epoch_us({0})",
    "timestamp_ns": "epoch_ns({0})",
}
"""SQL that shows a committed value in the form that is returned here."""
