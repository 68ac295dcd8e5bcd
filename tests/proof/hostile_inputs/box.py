"""Hostile statements for the SQL box, by kind.

Owns: the statements, the answers that are right, and what an answer may have or not.
Does not own: asking them (see hostile_box.py).
"""
import random

from . import Input

SECRET = "a secret that no answer has"
"""What stands in the file `{secret}`. `{leak}` is a path that must not be written, `{dataset}` a directory that must not be named."""
REFUSED, ENDED, SHOWN = (400,), (422, 400), (200,)
OF_EACH = 60


def inputs(seed):
    for kind, expected, statements in KINDS:
        for statement in statements:
            yield Input(kind, statement, expected)
    draw = random.Random(f"{seed} box")
    for _ in range(OF_EACH):
        yield Input("drawn: SELECTs with tokens changed", changed(draw), None)


def changed(draw):
    """Returns a SELECT of which some tokens were taken from others: what DuckDB says of it alone is what must be answered."""
    tokens = draw.choice(SELECTS).split(" ")
    for _ in range(draw.choice((1, 1, 2, 3))):
        at, other = draw.randrange(len(tokens)), draw.choice(SELECTS).split(" ")
        tokens[at:at + draw.randrange(2)] = [draw.choice(other)]
    return " ".join(tokens)


SELECTS = [
    "SELECT id , kind FROM events WHERE id > 3 ORDER BY id", "SELECT kind , count(*) AS n FROM events GROUP BY kind ORDER BY kind",
    "SELECT max( id ) - min( id ) FROM events", "WITH e AS ( SELECT id FROM events ) SELECT * FROM e WHERE id < 5 ORDER BY id",
    "SELECT id , row_number() OVER ( ORDER BY id DESC ) FROM events ORDER BY id", "SELECT unnest( [ 1 , 2 , NULL ] ) AS u",
    "SELECT CASE WHEN id = 1 THEN 'a' ELSE kind END FROM events ORDER BY 1",
    "SELECT a.id FROM events a JOIN events b ON a.id = b.id + 1 ORDER BY a.id",
    "VALUES ( 1 , 'x' ) , ( 2 , NULL )", "SELECT DISTINCT kind FROM events EXCEPT SELECT 'x'",
]

KINDS = [
    ("statements that read files", REFUSED, [
        "SELECT * FROM read_csv('{secret}')", "SELECT * FROM '{secret}'", "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('/proc/self/environ')", "SELECT * FROM glob('/**')", "SELECT * FROM glob('*')",
        "SELECT * FROM read_json('{secret}')",
        "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')", "SELECT * FROM query_table('{secret}')",
        "SELECT * FROM read_parquet('/**/*.parquet')", "SELECT * FROM parquet_metadata('{secret}')", "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM read_json('http://127.0.0.1:1/')", "SELECT * FROM 's3://bucket/x.parquet'",
        "WITH x AS (SELECT * FROM read_text('{secret}')) SELECT * FROM x", "SELECT (SELECT content FROM read_text('{secret}'))",
        "SELECT * FROM parquet_schema('{dataset}/_pintail/KEY')",
        "SELECT * FROM read_blob('{dataset}/_pintail/KEY')", "SELECT getenv('HOME')", "SELECT * FROM events, read_text('{secret}')",
        "SELECT * FROM read_csv_auto('/dev/stdin')", "SELECT * FROM '/proc/self/maps'", "SELECT * FROM read_text(['{secret}'])",
        "FROM '{secret}' SELECT *",
        "SELECT * FROM duckdb_secrets()", "SELECT * FROM which_secret('{secret}', 's3')", "SELECT filename FROM events",
        "SELECT * FROM parquet_file_metadata('{secret}')", "SELECT * FROM read_ndjson_objects('{secret}')",
    ]),
    ("statements that write", REFUSED, [
        "ATTACH '{leak}'", "COPY events TO '{leak}'", "COPY (SELECT 1) TO '{leak}'", "EXPORT DATABASE '{leak}'", "CREATE TABLE t AS SELECT 1",
        "DROP VIEW events", "INSERT INTO events VALUES (1)", "DELETE FROM events", "UPDATE events SET id = 1",
        "CREATE SECRET x (TYPE s3)", "CREATE MACRO f() AS 1", "ALTER TABLE events RENAME TO x", "TRUNCATE events",
        "WITH x AS (SELECT 1) INSERT INTO events SELECT * FROM x", "CREATE OR REPLACE VIEW events AS SELECT 1", "IMPORT DATABASE '{secret}'",
        "COPY events FROM '{secret}'",
        "CREATE TEMP TABLE t(i INTEGER)", "COMMENT ON VIEW events IS 'x'",
        "MERGE INTO events USING events ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    ]),
    ("statements that change settings", REFUSED, [
        "SET memory_limit = '20GB'", "RESET enable_external_access", "SET enable_external_access = true; SELECT * FROM read_text('{secret}')",
        "PRAGMA database_list", "PRAGMA version", "INSTALL httpfs", "LOAD '{secret}'", "CALL pragma_version()", "USE memory", "BEGIN", "COMMIT",
        "CHECKPOINT", "VACUUM",
        "PRAGMA enable_profiling", "SET threads = 64", "SET VARIABLE x = 1", "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p",
        "EXPLAIN ANALYZE SELECT * FROM events", "ANALYZE", "DETACH memory", "FORCE INSTALL json FROM community", "SET lock_configuration = false",
        "PRAGMA import_database('{secret}')",
        "SET SESSION search_path = 'x'", "UPDATE EXTENSIONS",
    ]),
    ("statements that are more than one, or none", REFUSED, [
        "SELECT 1; SELECT 2", "", ";", ";;;", "SELECT 1; DROP VIEW events", "-- nothing", "/* nothing */", "\0", "SELECT 'a\0b'", "/* " * 10_000,
        "SELECT 1;\n;SELECT 2", "SELECT", "SELEC 1", "'", "\"", "$$", "SELECT $1", "SELECT ?", "SELECT :x", "KILL 1", "\ufeff", "\u202e", "DO 1",
        "SELECT * FROM", "🦆",
        "SELECT 1 /*", "SELECT U&'\\D800'", "SELECT e'\\xff'", "EXPLAIN", "VALUES",
    ]),
    ("statements that are too much", REFUSED, [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000, "SELECT " + "1+" * 50_000 + "1", "SELECT " + "NOT " * 50_000 + "true",
        "SELECT '" + "x" * 100_000 + "'", "SELECT " + ",".join(f"{i} AS c{i}" for i in range(20_000)), "SELECT " + "-" * 3 + "1",
        "SELECT a FROM (SELECT repeat('y', 20000) a FROM range(1000))", "SELECT " + "CASE WHEN true THEN " * 3000 + "1" + " END" * 3000,
        "SELECT * FROM " + "(SELECT * FROM " * 2000 + "events" + ")" * 2000,
        "SELECT " + "[" * 5_000 + "]" * 5_000, "SELECT regexp_matches('a', '((a{{1000}}){{1000}}){{1000}}')", "SELECT range(10000000000)",
    ]),
    ("statements that would take all memory", ENDED, [
        "SELECT repeat('x', 1000000000)", "SELECT length(repeat('x', 4000000000))",
        "SELECT length(replace(repeat('a', 100000), 'a', repeat('b', 100000)))",
        "SELECT damerau_levenshtein(repeat('a', 100000), repeat('b', 100000))", "SELECT list_sum(range(1000000000))",
        "SELECT format('{{:2000000000}}', 1)",
        "SELECT lpad('a', 2147483647, 'x')", "SELECT string_agg(repeat('x', 1000), ',') FROM range(1000000)",
        "SELECT list(range) FROM range(1000000000)", "SELECT count(DISTINCT range) FROM range(1000000000)",
        "SELECT histogram(range) FROM range(100000000)",
        "SELECT array_agg(a.range ORDER BY b.range) FROM range(100000) a, range(100000) b",
        "SELECT json_structure((repeat('[', 200000) || repeat(']', 200000))::JSON)",
    ]),
    ("statements that would take all time", ENDED, [
        "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t) SELECT max(i) FROM t",
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b", "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
        "SELECT sleep_ms(100000)", "SELECT pg_sleep(100)",
        "SELECT sum(sqrt(range)) FROM range(100000000000)",
    ]),
    ("statements that show what is there", SHOWN, [
        "FROM events", "VALUES (1)", "DESCRIBE events", "SHOW TABLES", "SELECT * FROM range(100000000000)",
        "SELECT 'NaN'::DOUBLE, 'inf'::DOUBLE, 1e308 * 10, '\\xff'::BLOB, INTERVAL 1 YEAR, {{'a': 1}}, MAP {{'a': 1}}, [1]",
        "SELECT 170141183460469231731687303715884105727::HUGEINT",
        "SELECT * FROM events ORDER BY random()", "SELECT '\x1b[2J', chr(0), chr(8238)", "SELECT TIMESTAMP 'infinity', DATE '-infinity'",
        "SELECT DATE '9999-12-31', TIMESTAMP '294247-01-10 04:00:54'", "SELECT regexp_matches(repeat('a', 1000000), '(a*)*b')",
        "SELECT 1 AS a, 2 AS a", "SELECT NULL", "SELECT 1 WHERE false",
        "SELECT '<script>alert(1)</script>'", "SELECT [[[[1]]]]", "SELECT {{'a': {{'b': [NULL]}}}}",
        "SELECT UUID '00000000-0000-0000-0000-000000000001'", "SELECT TIME '24:00:00'", "SELECT 0.1::FLOAT, -0.0::DOUBLE",
        "SELECT 18446744073709551615::UBIGINT", "SELECT DATE '-5000-01-01'", "SELECT '101'::BIT::VARCHAR",
        "(SELECT 1)", "SELECT id FROM events -- end", "SELECT 1;", "SELECT current_setting('temp_directory')",
    ]),
    ("statements that fail as they run", REFUSED, [
        "SELECT error('\x1b[2J')", "SELECT 'x'::INTEGER", "SELECT nextval('x')", "SELECT * FROM nowhere", "SELECT id + 'x' FROM events",
        "SELECT sum(kind) FROM events", "SELECT (SELECT id FROM events)", "SELECT 9223372036854775807 + 1", "SELECT cast(kind AS DATE) FROM events",
        "SELECT id FROM events GROUP BY kind",
        "SELECT unnest(id) FROM events", "SELECT make_timestamp(-9223372036854775808)::VARCHAR",
    ]),
]
"""Kind, the answers that are right, and the statements; `{{` and `}}` are braces."""
