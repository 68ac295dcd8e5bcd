"""Hostile inputs: what is given to Pintail, and what must become of it.

Owns: an input and its kind; how many of each kind a run takes.
Does not own: the inputs (a module for each sort), how they are given and judged (see hostile.py).
"""
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Input:
    kind: str
    content: object
    """Bytes of a record, a request, files, or a statement with its values: each sort has its own."""
    expected: object = None
    """What must become of it, where the sort has no rule that says so."""


def sampled(inputs, seed, of_each):
    """Returns so many inputs of each kind, drawn by the seed, in their order."""
    by_kind = {}
    for index, input in enumerate(inputs):
        by_kind.setdefault(input.kind, []).append(index)
    drawn = random.Random(seed)
    chosen = {index for indices in by_kind.values() for index in drawn.sample(indices, min(of_each, len(indices)))}
    return [input for index, input in enumerate(inputs) if index in chosen]
