"""Hostile lines of a file, each between good ones, read once.

Owns: the file, and the comparison of all that became of it: each line is the row that it must be, a dead letter with its bytes at its place, or
nothing where it is blank.
Does not own: what a line must become (see hostile_inputs/records.py), the process (see victim.py).
"""
import base64
import unicodedata
from collections import Counter

from hostile_inputs import decoding, mutations, records
from victim import Victim

SHOWN = ", ".join(decoding.SHOWN.get(column.kind, "{0}").format(f'"{column.name}"') for column in decoding.COLUMNS)
SETTINGS = {
    "source.type": "file", "source.path": "in.ndjson", "schema.columns": [column.setting() for column in decoding.COLUMNS],
    "transform.sql": "SELECT * REPLACE (ts::TIMESTAMP AS ts) FROM events", "monitor.group_by": "kind", "monitor.value": "id",
}
GOOD_KIND = "a good neighbour"
MOVING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that move a cursor, or text."""


def run(options, directory, inputs):
    """Gives these inputs to one process. Returns the victim, with what does not hold."""
    victim = Victim(options.pintail, directory, SETTINGS)
    good = mutations.neighbours(len(inputs) + 1, options.seed)
    lines = [(GOOD_KIND, good[0])]
    for input, neighbour in zip(inputs, good[1:]):
        lines += [(input.kind, input.content), (GOOD_KIND, neighbour)]
    (directory / "in.ndjson").write_bytes(b"".join(line + b"\n" for _, line in lines))
    victim.read()
    check(victim, lines, inputs)
    victim.check_at_rest()
    victim.check_restart()
    return victim


def check(victim, lines, inputs):
    found_rows, found_letters = victim.rows(SHOWN), {letter["offset"]: letter for letter in victim.letters()}
    expected = {input.content: input.expected for input in inputs if input.expected}
    expected |= {line: records.ROW for kind, line in lines if kind == GOOD_KIND}
    for place, (kind, line) in zip(mutations.places([line for _, line in lines]), lines):
        must, values = records.outcome(line, decoding.COLUMNS)
        if expected.get(line, must) != must:
            victim.faults.append(f"the proof contradicts itself: {kind}: {excerpt(line)} is {must} and {expected[line]}")
        letter, row = found_letters.pop(place, None), values and tuple(values.values())
        if letter:
            wrong = f"a dead letter, {letter['reason']!r}, not {must}" if must != records.LETTER else letter_fault(letter, line)
        elif must == records.LETTER:
            wrong = "no dead letter"
        elif must == records.ROW and not found_rows[row]:
            wrong = f"no row {row}"
        else:
            wrong = None
        if row in found_rows:
            found_rows[row] -= 1
        if wrong:
            victim.faults.append(f"{kind}: {excerpt(line)} became {wrong}")
    for row in +found_rows:
        victim.faults.append(f"a row that no line is: {str(row)[:500]}")
    for letter in found_letters.values():
        victim.faults.append(f"a dead letter that no line is: {str(letter)[:500]}")


def letter_fault(letter, line):
    """Returns what is wrong with a dead letter of this line: it has its bytes, the first ones of a long line, and a short reason."""
    content = line.removesuffix(b"\r")
    kept = base64.b64decode(letter["record_base64"]) if "record_base64" in letter else letter["record"].encode()
    if letter["length"] not in (len(line), len(content)):
        return f"a dead letter of {letter['length']} bytes"
    if kept not in (line, content) and not (len(line) > records.RECORD_BYTES_MAX and kept == line[:records.LETTER_BYTES_MAX]):
        return f"a dead letter of other bytes: {excerpt(kept)}"
    if len(letter["reason"].encode()) > 220 or any(unicodedata.category(char) in MOVING for char in letter["reason"]):
        return f"a dead letter with the reason {letter['reason']!r}"
    return None


def excerpt(line):
    return repr(line if len(line) <= 200 else line[:160] + b" ... " + line[-30:])
