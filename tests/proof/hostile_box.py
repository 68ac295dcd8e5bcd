"""Hostile statements for the SQL box, a good one after each.

Owns: asking them, and what holds of each answer: its status, that it is JSON, that it has no secret; that nothing was written.
Does not own: the statements (see hostile_inputs/box.py), the process (see victim.py).
"""
import json
import os
import time

import duckdb

from hostile_clients import SETTINGS
from hostile_inputs.box import ENDED, SECRET
from process import children_of
from victim import WAIT_SECONDS, Victim, last_line

EVENTS = 20
ROWS_MAX = 1_000
TIMEOUT_SECONDS = 2
SLACK_SECONDS = 30
"""By which an answer may be later than it should: others use the machine."""


def run(options, directory, inputs):
    """Asks these statements of one process. Returns the victim, with what does not hold."""
    victim = Victim(options.pintail, directory, SETTINGS | {"admin.query_timeout": f"{TIMEOUT_SECONDS}s", "admin.query_memory_limit": "128MB"})
    (directory / "secret").write_text(SECRET)
    places = {"secret": directory / "secret", "leak": directory / "leak", "dataset": directory / "out"}
    with victim.serve() as service:
        service.post(b"".join(b'{"id":%d,"kind":"k%d"}\n' % (id, id % 3) for id in range(EVENTS)))
        service.process.wait_until(lambda: good_answer(service), "the rows in an answer", WAIT_SECONDS)
        for input in inputs:
            statement = input.content.format(**places) if input.expected is not None else input.content
            begin = time.monotonic()
            status, answer = asked(service, statement)
            faults = list(judged(input, statement, status, answer, time.monotonic() - begin, places))
            if not service.process.is_running():
                victim.faults.append(f"{input.kind}: `{statement[:200]}` ended the process: {last_line(service.process)}")
                break
            if not good_answer(service):
                faults.append("and the next good statement is not answered")
            victim.faults += [f"{input.kind}: `{statement[:200]}` was answered with {status}, {answer[:300]}: {fault}" for fault in faults]
        if children := children_of(service.process.pid):
            victim.faults.append(f"children are left: {children}")
    if sorted(os.listdir(directory)) != ["out", "secret"]:
        victim.faults.append(f"something was written: {sorted(os.listdir(directory))}")
    victim.check_once(range(EVENTS), "good records")
    victim.check_at_rest()
    victim.check_restart()
    return victim


def asked(service, statement):
    """Asks until no other statement runs, which may be one that is being ended."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        status, answer = service.query(statement)
        if status != 429 or time.monotonic() > end:
            return status, answer
        time.sleep(0.05)


def good_answer(service):
    status, answer = asked(service, "SELECT count(*) FROM events")
    return status == 200 and json.loads(answer)["rows"] == [[EVENTS]]


def judged(input, statement, status, answer, seconds, places):
    """Gives what is wrong with an answer."""
    expected = input.expected or alone(statement)
    if status not in expected:
        yield f"{' or '.join(map(str, expected))} expected"
    for hidden in (SECRET, str(places["dataset"])):
        # What the statement itself has may be in the words about it.
        if hidden in answer and hidden not in statement:
            yield f"it has {hidden!r}"
    try:
        json.loads(answer, parse_constant=lambda constant: exec("raise ValueError(constant)"))
    except ValueError as error:
        yield f"it is no JSON: {error}"
    if any(ord(char) < 32 and char != "\n" for char in answer):
        yield "it has control characters"
    if seconds > TIMEOUT_SECONDS + SLACK_SECONDS:
        yield f"it took {seconds:.0f} s"


def alone(statement):
    """Returns the answers that are right for a statement, by what DuckDB says of it over the same rows."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(f"CREATE TABLE events AS SELECT range AS id, 'k' || range % 3 AS kind FROM range({EVENTS})")
        try:
            parsed = connection.extract_statements(statement)
            if len(parsed) != 1 or parsed[0].type != duckdb.StatementType.SELECT:
                return (400,)
            connection.execute("SET enable_external_access = false")
            connection.execute(statement).fetchmany(ROWS_MAX)
            return (200,)
        except duckdb.Error:
            return (400,)
