"""The licences of everything that is linked in, as one text.

Owns: that text.
Does not own: which components there are (see linked.py).
"""
RULE = "=" * 80


def text(components):
    """Returns a list of all components, and below it each text of a licence once, under the names of those that have it."""
    holders = {}
    for component in components:
        for file, licence in component.texts.items():
            holders.setdefault(licence, []).append(f"{_name(component)} ({file})")
    lines = ["Pintail is under the Apache License 2.0 (LICENSE). These are linked into it:", ""]
    lines += [f"  {_name(component)}: {component.licence}" for component in components]
    for licence, names in holders.items():
        lines += ["", RULE, *names, RULE, "", licence]
    return "\n".join(lines) + "\n"


def _name(component):
    return f"{component.name}{' ' + component.version if component.version else ''}{', in ' + component.of if component.of else ''}"
