"""How a check says that something is not so.

Owns: the exception, and the comparison that raises it.
"""


class Failed(Exception):
    """A package does not do what it should."""


def expect(what, found, expected):
    if found != expected:
        raise Failed(f"{what}: {found}, expected {expected}")
