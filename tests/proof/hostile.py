#!/usr/bin/env python3
"""Gives Pintail records, statements, requests and files that are meant to break it, each among good ones. Is anything lost, or anybody hurt?

    python3 tests/proof/hostile.py                          the short form: two inputs of every kind; about a minute
    nice python3 tests/proof/hostile.py --full              all of them, each kind in a process of its own; some minutes
    python3 tests/proof/hostile.py --full --only archives   the kinds whose name has one of these words

Of each input it is known what must become of it: a row with exactly these values, a dead letter with its bytes, a refusal, or a file that
waits and is named; never silence. What a record must become is said by a reader of its own (hostile_inputs/decoding.py), what a statement makes
of it by DuckDB alone, what an Arrow stream holds by pyarrow. Checked as well: each good neighbour is there once; the process lives, without a
panic; memory and descriptors keep to their bounds, and descriptors come back to where they were; the dataset is sound (see oracle.py),
`pintail verify` finds nothing, what was committed can be shown, and a further start works and changes nothing.

Half of the inputs follow from the seed by rules. The others were thought up, most of them without a look at the code.

Owns: the sorts of inputs, which of them share a process, the table.
Does not own: the inputs (see hostile_inputs), how each sort is given and judged (see hostile_lines.py and its like), the process (see victim.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import duckdb

import job
import hostile_box
import hostile_clients
import hostile_files
import hostile_lines
import hostile_statements
from hostile_inputs import bodies, box, expressions, files, mutations, records, requests, sampled
from oracle import Broken
from process import Unexpected

OF_EACH = 2
FAULTS_SHOWN, FAULT_CHARACTERS = 8, 1_000


@dataclass(frozen=True)
class Sort:
    """A sort of inputs."""

    inputs: Callable
    """Gives all of them by a seed."""
    run: Callable
    """Gives some of them to one process; returns the victim."""
    apart: Callable = lambda input: ()
    """What inputs must have in common that share a process."""


SORTS = {
    "records": Sort(lambda seed: [*records.inputs(), *mutations.inputs(seed)], hostile_lines.run),
    "statements": Sort(expressions.inputs, hostile_statements.run, lambda input: (input.content.whole and input.content.sql, input.content.settings)),
    "requests": Sort(lambda seed: [*requests.inputs(random.Random(seed)), *bodies.inputs(random.Random(seed))], hostile_clients.run,
                     lambda input: input.content.settings),
    "box": Sort(box.inputs, hostile_box.run),
    "files": Sort(files.inputs, hostile_files.run, lambda input: input.content.path),
    "followed": Sort(files.followed, hostile_files.follow),
}


def groups(options):
    """Returns the inputs that share a process, by sort: in the long form those of one kind, in the short one as many as can."""
    made = {}
    for name, sort in SORTS.items():
        inputs = [input for input in sort.inputs(options.seed) if not options.only or any(word in input.kind for word in options.only)]
        for input in inputs if options.full else sampled(inputs, options.seed, OF_EACH):
            made.setdefault((name, options.full and input.kind, sort.apart(input)), []).append(input)
    return [(name, inputs) for (name, *_), inputs in made.items()]


def run(options, work, numbered):
    """Runs one group. Returns what does not hold."""
    number, (name, inputs) = numbered
    directory, begin = work / str(number), time.monotonic()
    kinds = list(dict.fromkeys(input.kind for input in inputs))
    what = f"{name}: {kinds[0]}" + (f" and {len(kinds) - 1} kinds more" if len(kinds) > 1 else "")
    try:
        victim = SORTS[name].run(options, directory, inputs)
        faults, peak = victim.faults, victim.peak
    except (Broken, Unexpected, duckdb.Error) as error:
        faults, peak = [f"{str(error)[:200]} … {str(error)[-600:]}"], [0, 0]
    print(f"{len(inputs):6,} {time.monotonic() - begin:8.1f} {peak[0] / 2**20:6.0f} {peak[1]:6} {len(faults):6}  {what}", flush=True)
    distinct = Counter(faults).most_common()
    for fault, times in distinct[:FAULTS_SHOWN]:
        print(f"  FAILED{f' {times} times' if times > 1 else ''}: {fault[:FAULT_CHARACTERS]}", flush=True)
    if len(distinct) > FAULTS_SHOWN:
        print(f"  FAILED: and {len(distinct) - FAULTS_SHOWN} more", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    return f"{what}: {len(faults)} faults" if faults else None


def prove(options, work):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Crowds of connections have an end here, too.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    begin, made = time.monotonic(), groups(options)
    print(f"seed {options.seed}\n inputs  seconds    MiB    fds faults  what")
    with job.Workers(options.workers) as workers:
        failed = [fault for fault in workers.map(partial(run, options, work), enumerate(made)) if fault]
    kinds = {(name, input.kind) for name, inputs in made for input in inputs}
    print(f"{sum(len(inputs) for _, inputs in made):,} inputs of {len(kinds)} kinds, in {len(made)} groups, in {time.monotonic() - begin:.0f} s")
    return failed


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--full", action="store_true", help="the long form")
    add("--only", nargs="+", metavar="WORD", default=[], help="kinds whose name has one of these words")
    add("--workers", type=int, metavar="N", default=min(2, os.cpu_count()), help="groups at the same time (%(default)s)")
    return job.parse(parser)


if __name__ == "__main__":
    job.conclude(prove, arguments(), "hostile")
