"""Statements of `transform.sql` that fail by what is in a record, or end what runs them.

Owns: the expressions, the values that they fail on, and what DuckDB alone says of each record.
Does not own: how records and statement are given (see hostile_statements.py).
"""
import json
import random
from dataclasses import dataclass
from functools import cache

import duckdb

from . import Input

COLUMNS = {"id": "int64", "k": "int64", "n": "int64", "m": "int64", "f": "float64", "s": "text", "v": "json", "t": "timestamp"}
SQL_TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "text": "VARCHAR", "json": "VARCHAR", "timestamp": "TIMESTAMP"}
GOOD = {"n": 1, "m": 2, "f": 1.5, "s": "1", "v": {"x": 1}, "t": "2026-01-05T10:00:00Z"}
LETTER = "dead letter"
OF_EACH = 30

OPERATIONS = [
    "({0} + {1})", "({0} - {1})", "({0} * {1})", "(-{0})", "abs({0})", "({0} // {1})", "({0} % {1})", "({0} << ({1} % 64))", "gcd({0}, {1})",
    "({0} & {1})",
]
NEARLY = {
    "INTEGER": ("2147483648", " 5 ", "1e3"), "UTINYINT": ("256", "-0", "0255"), "DOUBLE": ("1e999", "nan", "1_0"),
    "DECIMAL(10, 3)": ("9999999.9995", "1e7", "-.5"),
    "DATE": ("2026-02-30", "epoch", "2026-1-1"), "TIMESTAMP": ("2026-01-01 24:00:00", "2026-13-01", "294247-01-10 04:00:54.775808"),
    "TIME": ("24:00:00", "23:59:60", "1:2:3"),
    "INTERVAL": ("1 yea", "9223372036854775807 years", "1 day 2 months"), "BOOLEAN": ("yes", "T", "2"), "BLOB": ("\\xZZ", "\\x4", "\\xff"),
    "BIT": ("0102", "", "1" * 100),
    "UUID": ("{00112233-4455-6677-8899-aabbccddeeff}", "00112233445566778899aabbccddeef", "00112233-4455-6677-8899-aabbccddeefg"),
    "INTEGER[]": ("[1, 2", "[1, x]", "[]"),
    "STRUCT(a INTEGER)": ("{'a': 1}", "{'b': 1}", "{a: x}"), "MAP(INTEGER, INTEGER)": ("{1=2}", "{1=2, 1=3}", "{1}"),
    "HUGEINT": ("1" * 39, "2" * 39, "-1" + "7" * 38),
}
"""Types, and texts that are nearly of them."""
ODD_TEXTS = [
    "", "1", "ä", "😀", "e\u0301", "\0", "a\0b", "%", "(", "[", "\\", "\\1", "a" * 10_000, "\u202e", "0x1f", "=ff", "%zz", "////", "{}",
    "{:d}", "%d%s", "Y%", "\ufeff", "ß" * 300,
]
TEXT_FUNCTIONS = [
    "substring(s, n, n)", "left(s, n)", "s[n:n]", "split_part(s, s, n)", "regexp_extract('a1b2', s)", "regexp_replace(s, '(.)', s)",
    "'a%b' LIKE s ESCAPE '\\'", "from_base64(s)", "unhex(s)", "url_decode(s)",
    "strptime('2026', s)", "strftime(t, s)", "format(s, 1)", "printf(s, 1)", "chr(n::INTEGER)", "date_part(s, t)", "date_trunc(s, t)",
    "string_split(s, '')[n]", "translate(s, 'a', s)", "trim(s, s)", "ascii(s)", "unicode(s)",
    "bar(n, 0, 10, 10)", "json_valid(s)", "encode(s)", "strip_accents(s)", "nfc_normalize(s)", "parse_path(s)", "try_strptime(s, '%Y-%m-%d')",
    "hex(n)", "levenshtein(s, 'abc')", "jaccard(s, 'abc')", "hamming(s, 'a')",
    "starts_with(s, s)", "to_base(n, 36)",
]


@dataclass(frozen=True)
class Failing:
    """An expression, or a whole statement, and the values of a record that it is given. Both have to do with good values as well."""

    sql: str
    values: tuple
    whole: bool = False
    settings: tuple = ()
    address_space: int = 0
    """Bytes that the process may map, as in a container that is as small; 0: any number."""
    neighbours: int = 1
    """Good records before each."""

    def statement(self):
        return self.sql if self.whole else f"SELECT id, k, CAST(({self.sql}) AS VARCHAR) AS x FROM events"


def record(id, k, values=()):
    return {"id": id, "k": k} | GOOD | dict(values)


@cache
def values_alone(statement, values=()):
    """Returns the values `x` that DuckDB makes of a record with these values that is alone in its table, as text; `None` if it fails."""
    with duckdb.connect(config={"threads": 1}) as connection:
        columns = ", ".join(f"{name} {SQL_TYPES[kind]}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE events ({columns})")
        row = [json.dumps(value, separators=(",", ":")) if name == "v" else value for name, value in record(0, 0, values).items()]
        try:
            connection.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(row))})", row)
            return [x for x, in connection.execute(f"SELECT x::VARCHAR FROM ({statement})").fetchall()]
        except (duckdb.Error, UnicodeDecodeError):
            # Some functions cut a character in two: that is no text.
            return None


def inputs(seed):
    for kind, expected, cases in KINDS:
        for sql, hostile in cases:
            for values in hostile:
                yield Input(kind, frozen(sql, values), expected)
    for kind, expected, how, sql, hostile in STATEMENTS:
        for values in hostile:
            yield Input(kind, frozen(sql, values, whole=True, **how), expected)
    for rule in (arithmetic, casts, functions):
        draw = random.Random(f"{seed} {rule.__name__}")
        for _ in range(OF_EACH):
            yield Input(f"drawn: {rule.__doc__}", drawn_good(rule, draw))


def frozen(sql, values, settings=None, **how):
    return Failing(sql, tuple(values.items()), settings=tuple((settings or {}).items()), **how)


def drawn_good(rule, draw):
    """Draws until there is an expression that does not fail on good values."""
    while True:
        case = rule(draw)
        if values_alone(case.statement()):
            return case


def arithmetic(draw):
    """arithmetic at the bounds"""
    return Failing(term(draw, 3), (("n", integer(draw)), ("m", integer(draw))))


def casts(draw):
    """casts of odd texts"""
    kind, text = draw.choice(list(NEARLY)), "".join(draw.choice("0123456789-+.eE:T {}[]\"',abc\\x") for _ in range(draw.randrange(8)))
    # Good neighbours have texts that no type takes all of.
    return Failing(f"CASE WHEN s = '1' THEN s ELSE CAST(CAST(s AS {kind}) AS VARCHAR) END", (("s", draw.choice((text, *NEARLY[kind]))),))


def functions(draw):
    """functions of texts"""
    return Failing(draw.choice(TEXT_FUNCTIONS), (("s", draw.choice(ODD_TEXTS)), ("n", draw.choice((-2**63, -1, 0, 1, 3, 100, 2**40)))))


def integer(draw):
    return draw.choice((0, 1, -1, 2, 63, 64, 2**31, -2**31, 2**62, 2**63 - 1, -2**63, 3037000500, draw.randrange(-2**63, 2**63)))


def term(draw, depth):
    if not depth:
        return draw.choice(("n", "m", "2", "3"))
    return draw.choice(OPERATIONS).format(term(draw, depth - 1), term(draw, draw.randrange(depth)))


def unless_good(expression):
    """Returns an expression that lets good values pass."""
    return f"CASE WHEN s = '1' THEN s ELSE CAST({expression} AS VARCHAR) END"


N = lambda *values: [{"n": value} for value in values]
S = lambda *values: [{"s": value} for value in values]

KINDS = [
    ("casts that fail", None, [
        ("CAST(s AS INTEGER)", S("abc", "99999999999", "", " ", "1.5.5", "١")), (unless_good("s::UUID"),
        S("", "z", "1", "00000000-0000-0000-0000-00000000000")), ("s::INTERVAL", S("1 parsec", "x")),
        ("s::DECIMAL(38, 10)", S("1e40", "nan", "--1")), (unless_good("s::TIMESTAMPTZ::VARCHAR"), S("2026", "x")),
        (unless_good("s::INTEGER[]"), S("{", "[1", "[[1]]")), ("s::BLOB", S("\\xZZ", "\\x", "ä")), ("s::BIT", S("2", "0b")),
        ("CASE WHEN s = '1' THEN '' ELSE (s::STRUCT(a INTEGER))::VARCHAR END", S("{[", "{'a': b}")), ("n::UTINYINT", N(256, -1)),
        ("f::INTEGER", [{"f": 1e300}, {"f": -3e9}]), ("s::BOOLEAN", S("maybe", "tru")),
        (unless_good("s::TIME"), S("25:00:00", "x")), (unless_good("s::DATE"), S("2026-02-30", "0")), ("CAST(s AS ENUM('1', 'a'))", S("2", "")),
        ("n::DECIMAL(3, 0)", N(1000, -1000)),
    ]),
    ("sums and products out of bounds", None, [
        ("n * n + n", N(2**62, -2**63, 3037000500)), ("-n", N(-2**63)), ("abs(n)", N(-2**63)), ("1 << n", N(64, -1, 63)),
        ("n % m", [{"n": 1, "m": 0}, {"n": -2**63, "m": -1}]), ("factorial(n::INTEGER)", N(1000, -1, 34)),
        ("n // m", [{"n": 1, "m": 0}, {"n": -2**63, "m": -1}]), ("n + m", [{"n": 2**63 - 1}, {"n": -2**63, "m": -1}]),
        ("n - m", [{"n": -2**63, "m": 1}]), ("sqrt(f)", [{"f": -1.0}]), ("ln(f)", [{"f": 0.0}]),
        ("acos(f)", [{"f": 2.0}]), ("exp(f)::BIGINT", [{"f": 1000.0}]), ("pow(n, m)::BIGINT", [{"n": 10, "m": 30}]), ("gamma(f)", [{"f": 0.0}]),
        ("lcm(n, m)", [{"n": 2**62 + 1, "m": 2**62 - 1}]), ("n::TINYINT * m::TINYINT", [{"n": 100, "m": 100}]),
    ]),
    ("places outside of lists and texts", None, [
        ("[1, 2, 3][n]", N(0, 2**62, -2**63)), ("len(string_split(s, '')[n:n + 5])", N(2**62, -2**63)), ("list_extract([1], n)", N(5)),
        ("array_extract(s, n)", N(0, 2**33)), ("list_resize([1], n)", N(-1)), ("substring(s, n)", N(-2**63, 2**62)),
        ("element_at(MAP {'a': 1}, s)", S("b")), ("left(s, n)", N(-2**63)), ("list_slice([1, 2, 3], n, m, 2)", [{"n": -1, "m": -5}]),
        ("string_split(s, ',')[n]", N(9)), ("bit_position('1'::BIT, n::VARCHAR::BIT)", N(2)),
        ("get_bit('101'::BIT, n::INTEGER)", N(-1, 99)), ("set_bit('101'::BIT, n::INTEGER, 1)", N(-1, 99)),
    ]),
    ("JSON that is none", None, [
        ("json_extract_string(s::JSON, '$.a')", S("{", "[" * 1000, "\x01", "nul")),
        ("json_extract(v, CASE WHEN s = '1' THEN '$.x' ELSE s END)::VARCHAR", S("$[", "$..", "$." + "a." * 1000, "$", "")),
        ("s::JSON::INTEGER", S("[]", "1.5", '"x"')),
        ("json_array_length(s)", S("{", "")), ("from_json(s, '\"INTEGER\"')", S('"a"', "{}", "1e99")),
        (unless_good("(s::JSON::MAP(VARCHAR, INTEGER))::VARCHAR"), S("[1]", '{"a":"b"}')), ("json_keys(s)", S("[", "{1:2}")),
        ("json_transform(s, '{\"a\":\"INTEGER\"}')", S("[", '{"a":"x"}')),
        ("json_merge_patch(s::JSON, '{}')", S("x", "")), ("(v::JSON->>CASE WHEN s = '1' THEN 'x' ELSE s END)::INTEGER", S("$", "y", "$.x.y")),
        ("(v::JSON->'x')[n]::INTEGER", [{"n": 5, "v": "y"}]), ("json_type(s, '$.a')", S("{'a':1}")),
    ]),
    ("JSON that is deep", LETTER, [
        ("json_structure(CASE WHEN s = '1' THEN s ELSE repeat('[', s::INTEGER) || repeat(']', s::INTEGER) END::JSON)::VARCHAR",
        S("1100", "2000", "200000")),
        ("json_structure(CASE WHEN s = '1' THEN s ELSE repeat('{\"a\":', s::INTEGER) || '1' || repeat('}', s::INTEGER) END::JSON)::VARCHAR",
        S("1100", "90000")),
    ]),
    ("patterns that are none", None, [
        ("regexp_matches(s, s)", S("(", "((a{1000}){1000}){1000}", "(?<=x)", "(" * 5000 + ")" * 5000, "\\", "[z-a]", "a**", "(?P<n>a)(?P<n>b)",
        "\\p{Nope}", "(?i")), ("regexp_replace('a', '(a)', s)", S("\\5", "\\9")),
        ("'a' LIKE s ESCAPE 'b'", S("b", "ab")), ("regexp_split_to_array('a', s)", S("[", "*")), ("s SIMILAR TO s", S("(", "[")),
        ("regexp_full_match('x', s)", S(")", "+")),
    ]),
    ("times that do not exist", None, [
        ("strptime(CASE WHEN s = '1' THEN '2026' ELSE s END, '%Y')", S("zz", "", "20261", "-1")), ("make_date(2000 + n, 1, 1)", N(300000, 2**40)),
        ("make_date(2026, n, 1)", N(13, 0, -1)), ("to_timestamp(n)::VARCHAR", N(2**62, -2**62)), ("epoch_ms(n)", N(2**62, -2**63)),
        ("make_timestamp(n)", N(2**63 - 1, -2**63)), ("t + to_years(n::INTEGER)", N(300_000, -300_000)), ("t + to_days(n::INTEGER)", N(2**31 - 1)),
        ("date_trunc(CASE WHEN s = '1' THEN 'day' ELSE s END, t)", S("parsec", "")), ("make_time(n, 0, 0)", N(25, -1)),
        ("date_part(CASE WHEN s = '1' THEN 'year' ELSE s END, t)", S("moon", "")),
        ("date_diff('microseconds', TIMESTAMP '1970-01-01', make_timestamp(n))", N(2**62)), ("time_bucket(to_days(n::INTEGER), t)", N(0, -1)),
        ("age(make_timestamp(n), t)", N(2**62)),
        ("to_days(n::INTEGER)", N(2**31, -2**40)), ("last_day(make_date(2000 + n, 2, 1))", N(5_000_000)),
        ("t::DATE - n::INTEGER", N(2**31 - 1, -2**31)), ("make_timestamp(2026, n, 1, 0, 0, 0)", N(0, 13)),
    ]),
    ("characters that do not exist", None, [
        ("chr(n::INTEGER)", N(0xD800, -1, 0x110000, 2**40)), ("decode(from_hex(CASE WHEN s = '1' THEN '61' ELSE s END))",
        S("ff", "c0af", "eda080", "zz", "f")), ("decode(unhex('61' || CASE WHEN s = '1' THEN '' ELSE s END))", S("80", "e28")),
            ("from_base64(CASE WHEN s = '1' THEN 'YQ==' ELSE s END)", S("!", "YQ", "=")),
        ("decode(url_decode(CASE WHEN s = '1' THEN '' ELSE s END)::BLOB)", S("%ff", "%c0%af")), ("encode(s)::VARCHAR", S("ä", "\0")),
        ("bin(n)::BIT::INTEGER", N(-1, 2**62)), ("unbin(s)", S("2", "x")), ("s::BLOB::VARCHAR", S("\\xff", "\\x00")),
    ]),
    ("errors that the SQL makes itself", None, [
        ("CASE WHEN s = '1' THEN s ELSE error(s) END", S("boom", "", "\x1b[2J", "x" * 5000, "\u202e", "Out of Memory Error", "INTERNAL Error: x",
        "INTERRUPT Error: Interrupted!", "TRY", "a\nb")),
        ("CASE WHEN n > 5 THEN error('n' || n) ELSE n::VARCHAR END", N(6, 7, 2**62)),
    ]),
    ("lists, structs and maps that fail", None, [
        ("list_reduce(list_transform(range(n), lambda x: x * x), lambda x, y: x + y)", N(0)), ("map([s, '2'], [1, 2])['1']", S("2")),
        ("map_from_entries([(s, 1), ('2', 2)])::VARCHAR", S("2")), ("struct_extract({'a': s}, 'a')::INTEGER", S("b")),
        ("list_transform([s], lambda x: x::INTEGER)", S("x")),
        ("list_filter([s, '5'], lambda x: x::INTEGER > 1)", S("x")), ("array_value(n, m)[n]", N(3)), ("list_zip([s], ['1'])[1][1]::INTEGER", S("x")),
        ("CAST([s] AS INTEGER[1])", S("x", "")), ("list_aggregate([n, m, n], 'sum')::BIGINT", N(2**62, -2**63)),
        ("list_sum([n, n])::BIGINT", N(2**62)), ("list_avg([f / m])", [{"m": 0}]),
         ("array_cosine_similarity([f, f]::DOUBLE[2], [0, 0]::DOUBLE[2])", [{"f": 0.0}]),
         ("list_distance([1.0], list_transform(range(n), lambda x: x::DOUBLE))", N(0, 2)), ("union_value(a := s::INTEGER)::VARCHAR", S("x")),
    ]),
]
"""Kind, what must become of the records (`None`: what DuckDB says of each alone), and expressions with the values that they are given."""

LIMITS = {"settings": {"transform.timeout": "1s", "transform.memory_limit": "256MB", "transform.rows_bytes_max": "16MiB"}}
SMALL = LIMITS | {"address_space": 4 << 30}
MANY = {"neighbours": 8_000, "settings": {"transform.threads": 3, "pipeline.batch_rows": 2_000}}
SHOWN = {"settings": {"monitor.group_by": "x"}}

STATEMENTS = [
    ("one that fails among very many", None, MANY, "SELECT id, k, CAST(s AS INTEGER) AS x FROM events", S("bad", "", "1e99")),
    ("one that fails among very many", None, MANY, "SELECT id, k, CASE WHEN s = '1' THEN s ELSE error(s) END AS x FROM events", S("a", "b")),
    ("one that fails among very many", None, MANY, "SELECT id, k, CAST(make_timestamp(n) AS VARCHAR) AS x FROM events", N(-2**63)),
    ("one that fails among very many", LETTER, MANY,
     "SELECT id, k, json_structure((repeat('[', n::INTEGER) || '1' || repeat(']', n::INTEGER))::JSON)::VARCHAR AS x FROM events", N(1_100)),
    ("one that fails among very many", LETTER, {"neighbours": 8_000} | LIMITS, "SELECT id, k, unnest(range(n)) AS x FROM events", N(10**12)),
    ("values that are hard to show", None, SHOWN, "SELECT id, k, s AS x FROM events", S("\x1b[2J", "y" * 100_000, "\u202e", "", "a\0b", "a\nb")),
    ("values that are hard to show", None, SHOWN,
     "SELECT id, k, CASE WHEN s = '1' THEN 1.5 ELSE s::DOUBLE END AS x FROM events", S("nan", "inf", "-inf", "-0")),
    ("values that are hard to show", None, SHOWN,
     "SELECT id, k, CASE WHEN s = '1' THEN '10:00'::TIME ELSE s::TIME END AS x FROM events", S("24:00:00", "00:00:00")),
    ("values that are hard to show", None, SHOWN, "SELECT id, k, s::BLOB AS x FROM events", S("\\xff\\xfe", "\\x00")),
    ("values that are hard to show", None, SHOWN, "SELECT id, k, [s, NULL] AS x FROM events", S("\x1b", "")),
    ("values that are hard to show", None, SHOWN,
     "SELECT id, k, make_date(2000 + n::INTEGER, 1, 1) AS x FROM events", N(-7_000, 8_000, 100_000, 5_000_000)),
    ("values that are hard to show", None, SHOWN, "SELECT id, k, s::DECIMAL(38, 10) AS x FROM events", S("-" + "9" * 28, "0.0000000001")),
    ("errors in a CTE", None, {}, "WITH q AS (SELECT id, k, CASE WHEN s <> '1' THEN error(s) ELSE s END AS x FROM events) SELECT * FROM q",
    S("bad", "worse", "x" * 300)),
    ("errors in a WHERE", None, {}, "SELECT id, k, s AS x FROM events WHERE CAST(s AS INTEGER) > 0", S("bad", "", "1e99", "0", "-5")),
    ("errors in a subquery", None, {}, "SELECT id, k, (SELECT max(q.y::INTEGER) FROM (SELECT unnest(['3', s]) AS y) q) AS x FROM events",
    S("bad", "", "5")),
    ("many rows of a record", None, {}, "SELECT id, k, unnest(range(n)) AS x FROM events", N(0, 5, 1000, 100_000)),
    ("rows without end", LETTER, LIMITS, "SELECT id, k, unnest(range(n)) AS x FROM events", N(10_000_000, 10**12)),
    ("rows without end, by a join", LETTER, LIMITS, "SELECT id, k, g.x FROM events, LATERAL (SELECT unnest(range(n)) AS x) g", N(10**12)),
    ("values that are too large", LETTER, LIMITS, "SELECT id, k, repeat('x', n) AS x FROM events", N(100_000_000, 4_000_000_000)),
    ("texts beyond the memory", LETTER, SMALL, "SELECT id, k, length(repeat('x', n)) AS x FROM events", N(2**62, 5 * 10**9)),
    ("texts beyond the memory", LETTER, SMALL, "SELECT id, k, length(replace(repeat('a', n), 'a', repeat('b', n))) AS x FROM events", N(200_000)),
    ("lists beyond the memory", LETTER, SMALL, "SELECT id, k, len(range(n)) AS x FROM events", N(10**10, 10**9, 2**62)),
    ("lists beyond the memory", LETTER, SMALL,
    "SELECT id, k, length(array_to_string(list_transform(range(n), lambda i: repeat('x', 1000)), ',')) AS x FROM events", N(10**7)),
    ("loops without end", LETTER, LIMITS, "SELECT id, k, (SELECT count(*) FROM range(events.n) a, range(events.n) b) AS x FROM events", N(5_000_000)),
    ("recursion without end", LETTER, LIMITS,
     "SELECT id, k, (WITH RECURSIVE r(i) AS (SELECT 0::BIGINT UNION ALL SELECT i + 1 FROM r WHERE i < n) SELECT max(i) FROM r) AS x FROM events",
     N(10**12)),
    ("code that cannot be interrupted", LETTER, {"settings": {"transform.timeout": "200ms"}},
    "SELECT id, k, levenshtein(repeat('a', n), repeat('b', n)) AS x FROM events", N(15_000)),
    ("infinite times", None, {}, "SELECT id, k, CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END AS x FROM events", S("infinity", "-infinity")),
    ("infinite times", None, {}, "SELECT id, k, CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END::TIMESTAMP_MS AS x FROM events",
    S("infinity", "-infinity")),
    ("infinite times", None, {}, "SELECT id, k, CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END::TIMESTAMP_NS AS x FROM events",
    S("infinity", "-infinity")),
    ("infinite times", None, {}, "SELECT id, k, [CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END] AS x FROM events", S("infinity", "-infinity")),
    ("infinite times", None, {"settings": {"sink.event_time": "x"}}, "SELECT id, k, CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END AS x FROM events",
    S("infinity", "-infinity")),
    ("infinite times", None, {"settings": {"monitor.group_by": "x"}}, "SELECT id, k, CASE WHEN s = '1' THEN t ELSE s::TIMESTAMP END AS x FROM events",
    S("infinity", "-infinity")),
    ("infinite dates", None, {}, "SELECT id, k, CASE WHEN s = '1' THEN t::DATE ELSE s::DATE END AS x FROM events", S("infinity", "-infinity")),
    ("infinite dates", LETTER, {"settings": {"sink.partition_by": ("x",)}},
    "SELECT id, k, CASE WHEN s = '1' THEN t::DATE ELSE s::DATE END AS x FROM events", S("infinity", "-infinity")),
    ("times of odd years", None, {}, "SELECT id, k, make_timestamp(n) AS x FROM events", N(0, 2**63 - 2, 253402300800000000,
    -62135596800000001)),
    ("times of odd years", None, {"settings": {"sink.event_time": "x"}}, "SELECT id, k, make_timestamp(n) AS x FROM events",
    N(0, -1, 253402300799999999, -62135596800000000)),
    ("times that DuckDB cannot read back", LETTER, {}, "SELECT id, k, make_timestamp(n) AS x FROM events", N(2 - 2**63, -9223372022400000001)),
    ("times that DuckDB cannot read back", LETTER, {}, "SELECT id, k, [NULL, make_timestamp(n)] AS x FROM events", N(2 - 2**63)),
    ("times that DuckDB cannot read back", LETTER, {}, "SELECT id, k, {'a': make_timestamp(n)} AS x FROM events", N(2 - 2**63)),
    ("times that DuckDB cannot read back", LETTER, {"settings": {"sink.event_time": "x"}}, "SELECT id, k, make_timestamp(n) AS x FROM events",
    N(2 - 2**63)),
    ("hive values made by the SQL", None, {"settings": {"sink.partition_by": ("x",)}}, "SELECT id, k, s AS x FROM events",
     S("..", ".", "/", "", "a/b", "../../x", "%2F", "%", " ", "a\nb", "\x7f", "x=y", "\\", "*", "007", "NULL", "~", "'",
         "\u202e", "\x1b[2J", "e\u0301", "é", "K", "k", "#", ".hidden", "_pintail",
       "a\r", "{a}", "\ufeff", "😀")),
    ("hive values that are no directory", LETTER, {"settings": {"sink.partition_by": ("x",)}}, "SELECT id, k, s AS x FROM events",
    S("y" * 300, "\0", "a\0b", "é" * 100, "__HIVE_DEFAULT_PARTITION__")),
]
"""Kind, what must become of the records, settings and limits, the statement, and the values that it is given."""
