"""The events that are compared: columns, how Pintail and DuckDB are told of them, and how they are made.

Owns: the columns of each shape and the SELECT that both run over them.
Does not own: the jobs, nor the default events (see gen_events.py).
"""
from dataclasses import dataclass
import random


@dataclass(frozen=True)
class Column:
    name: str
    duckdb: str
    pintail: str
    make: str = ""
    """SQL that makes a value of row i; none where gen_events.py makes the rows."""


@dataclass(frozen=True)
class Shape:
    columns: tuple[Column, ...]
    select: str
    """The SELECT list over the columns; `region` becomes the directories."""
    config: str = ""
    """What Pintail's configuration has beside schema and SQL."""
    prepare: str = ""
    """SQL to run before rows are made."""

    def read(self, path):
        """Returns the table function by which DuckDB reads a file of this shape."""
        columns = ", ".join(f"'{column.name}': '{column.duckdb}'" for column in self.columns)
        return f"read_json('{path}', format='newline_delimited', columns={{{columns}}})"

    def toml(self):
        """Returns Pintail's configuration for this shape."""
        columns = "".join(f'[[schema.columns]]\nname = "{column.name}"\ntype = "{column.pintail}"\n\n' for column in self.columns)
        return f"{columns}[transform]\nsql = '''SELECT {self.select} FROM events'''\n\n{self.config}"

    def rows(self, count):
        """Returns the query that makes `count` rows."""
        values = ", ".join(f'{column.make} AS "{column.name}"' for column in self.columns)
        return f"SELECT {values} FROM range({count}) t(i)"


def integer(name, below):
    return Column(name, "BIGINT", "int64", f"(random()*{below})::BIGINT")


def number(name, low, high, digits):
    return Column(name, "DOUBLE", "float64", f"round({low} + random()*{high - low}, {digits})")


def boolean(name, share):
    return Column(name, "BOOLEAN", "boolean", f"random() < {share}")


def time(name, spread_ms):
    return Column(name, "BIGINT", "int64", f"1767225600000 + i * 3 + (random()*{spread_ms})::BIGINT")


def few(name, *values):
    return Column(name, "VARCHAR", "dictionary", f"{list(values)}[1 + (random()*{len(values)})::INT % {len(values)}]")


def many(name, make):
    return Column(name, "VARCHAR", "text", make)


REGION = few("region", "us", "eu", "apac", "latam", "africa")
SKU = many("sku", "'SKU-' || lpad((random()*5000)::INT::VARCHAR, 5, '0')")
STANDARD = (time("timestamp", 1_000), integer("user_id", 1_000_000), REGION, number("amount", 0, 100, 4), SKU)
STANDARD_SELECT = """epoch_ms("timestamp") AS ts, user_id, region, round(amount, 2) AS amount, sku, \
CASE WHEN amount >= 80 THEN 'high' WHEN amount >= 30 THEN 'medium' ELSE 'low' END AS bucket"""

DEFAULT = Shape(STANDARD, STANDARD_SELECT)


def vocabulary():
    """Returns 400 made-up words, 2 to 12 letters long."""
    dice = random.Random(42)
    syllables = [consonant + vowel for consonant in "bcdfglmnprstv" for vowel in "aeiou"]
    return sorted({"".join(dice.choices(syllables, k=dice.choice([1, 2, 2, 3, 3, 4, 5, 6]))) for _ in range(470)})[:400]


# Lines of about 1 KB: a log message that is kept.
MESSAGE = many("message", """array_to_string(list_transform(range(100 + (random()*50)::INT), lambda x: CASE WHEN random() < 0.15
  THEN (random()*100000)::INT::VARCHAR ELSE getvariable('words')[1 + (random()*400)::INT % 400] END), ' ')""")
LONG = Shape((*STANDARD, MESSAGE), f"{STANDARD_SELECT}, message", prepare=f"SET VARIABLE words = {vocabulary()}")

# 40 columns: 12 integers, 8 numbers, 3 booleans, 4 times, 6 texts of few and 7 of many distinct values.
WIDE_COLUMNS = (
    time("timestamp", 1_000), time("created", 1_000_000), time("updated", 100_000), time("expires", 1_000_000_000),
    integer("user_id", 1_000_000), integer("session_id", 2**53), integer("order_id", 10**9), integer("quantity", 20),
    integer("price_cents", 100_000), integer("duration_ms", 30_000), integer("bytes_sent", 10**7), integer("attempts", 4),
    integer("status_code", 600), integer("port", 65_535), integer("shard", 64), integer("sequence", 10**12),
    number("amount", 0, 100, 4), number("tax", 0, 20, 4), number("discount", 0, 1, 3), number("latitude", -90, 90, 6),
    number("longitude", -180, 180, 6), number("score", 0, 1, 4), number("load", 0, 64, 2), number("temperature", -30, 45, 1),
    boolean("is_new", 0.1), boolean("is_test", 0.01), boolean("succeeded", 0.97),
    REGION, few("country", "DE", "US", "FR", "BR", "KE", "JP", "IN"), few("currency", "EUR", "USD", "BRL", "KES", "JPY", "INR"),
    few("status", "paid", "open", "cancelled", "returned"), few("device", "phone", "tablet", "desktop", "till"),
    few("level", "debug", "info", "warn", "error"),
    SKU, many("email", "'user' || (random()*1000000)::INT || '@example.com'"),
    many("url", "'https://shop.example.com/items/' || (random()*50000)::INT || '?page=' || (random()*100)::INT"),
    many("request_id", "md5(random()::VARCHAR)"),
    many("client_ip", "'10.' || (random()*255)::INT || '.' || (random()*255)::INT || '.' || (random()*255)::INT"),
    many("user_agent", "'Mozilla/5.0 (X11; Linux x86_64) Gecko/' || (random()*1000)::INT || ' Firefox/' || (100 + random()*40)::INT"),
    many("title", "'Item ' || (random()*50000)::INT || ' of series ' || (random()*300)::INT"),
)
WIDE = Shape(
    WIDE_COLUMNS,
    'epoch_ms("timestamp") AS ts, ' + ", ".join(f'"{column.name}"' for column in WIDE_COLUMNS[1:]),
    config='[monitor]\ngroup_by = "status"\nvalue = "amount"\n',
)

SHAPES = {"default": DEFAULT, "wide": WIDE, "long": LONG}
