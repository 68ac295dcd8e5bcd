"""Dead letters as their files have them. A module that imports little: the peak of a child's memory begins with that of its parent.

Owns: reading them.
Does not own: what they must say (see oracle.py, limits.py).
"""
import json


def read_letters(path):
    """Gives the dead letters of a file; a line with `then` stands for one at each further place."""
    with open(path, "rb") as lines:
        for letter in map(json.loads, lines):
            place, then = letter["offset"], letter.pop("then", [])
            yield letter
            for step, times in then:
                for _ in range(times):
                    place += step
                    yield letter | {"offset": place}
