"""Records that the SQL fails on, each between good ones, read once.

Owns: the statement that has all expressions of a group, the file, and the comparison: each record has the rows that DuckDB makes of it alone, or is
a dead letter if it makes none.
Does not own: expressions and values (see hostile_inputs/expressions.py), the process (see victim.py).
"""
import json
from itertools import count

from hostile_inputs.expressions import COLUMNS, LETTER, record, values_alone
from hostile_inputs.mutations import places
from victim import MEMORY, Victim

GOOD_KIND = "a good neighbour"
SETTINGS = {
    "source.type": "file", "source.path": "in.ndjson", "monitor.group_by": "k", "monitor.value": "id",
    "schema.columns": [{"name": name, "type": kind, "required": name == "id"} for name, kind in COLUMNS.items()],
}


def run(options, directory, inputs):
    """Gives these inputs, of one statement or of expressions, to one process. Returns the victim, with what does not hold."""
    expressions = list(dict.fromkeys(input.content.sql for input in inputs))
    first = inputs[0].content
    settings = {"transform.sql": first.statement() if first.whole else choosing(expressions)} | dict(first.settings)
    prefix = ("prlimit", f"--as={first.address_space}") if first.address_space else ()
    victim = Victim(options.pintail, directory, SETTINGS | settings, memory=first.address_space or MEMORY, prefix=prefix)
    records = list(between_good(inputs, expressions))
    lines = [json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() for *_, line in records]
    (directory / "in.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))
    victim.read()
    check(victim, records, places(lines))
    victim.check_at_rest()
    victim.check_restart()
    return victim


def choosing(expressions):
    """Returns a statement of which each expression is for the records with its number."""
    cases = " ".join(f"WHEN {k} THEN CAST(({expression}) AS VARCHAR)" for k, expression in enumerate(expressions))
    return f"SELECT id, k, CASE k {cases} END AS x FROM events"


def between_good(inputs, expressions):
    """Gives the records, each behind good ones: kind, what must become of it (`None`: what DuckDB says), the statement for it alone, its values
    and the record."""
    ids = count()
    for input in inputs:
        case, k = input.content, expressions.index(input.content.sql)
        for _ in range(case.neighbours):
            yield GOOD_KIND, None, case.statement(), (), record(next(ids), k)
        yield input.kind, input.expected, case.statement(), case.values, record(next(ids), k, case.values)


def check(victim, records, offsets):
    found_rows, found_letters = {}, {letter["offset"]: letter for letter in victim.letters()}
    for (id, x), times in victim.rows("id, x::VARCHAR").items():
        found_rows.setdefault(id, []).extend([x] * times)
    for (kind, expected, statement, values, record), offset in zip(records, offsets):
        must = None if expected == LETTER else values_alone(statement, values)
        if kind == GOOD_KIND and not must:
            victim.faults.append(f"the proof contradicts itself: `{statement[:300]}` fails on good values")
        letter, found = found_letters.pop(offset, None), found_rows.pop(record["id"], [])
        if must is None and not (letter and not found):
            wrong = f"no dead letter, and the rows {str(found)[:300]}"
        elif must is not None and letter:
            wrong = f"a dead letter: {letter['reason']}"
        elif must is not None and sorted(found, key=str) != sorted(must, key=str):
            wrong = f"{len(found)} rows, {str(found)[:300]}, not {str(must)[:300]}"
        else:
            continue
        victim.faults.append(f"{kind}: {str(dict(values))[:200]} in `{statement[:300]}` became {wrong}")
    if found_rows or found_letters:
        victim.faults.append(f"rows and dead letters that no record is: {str(found_rows)[:300]} {str(found_letters)[:300]}")
