"""The bill of materials: CycloneDX 1.6 as JSON, of what is linked in.

Owns: the format.
Does not own: which components there are (see linked.py).
"""
import hashlib
import json
import re
import uuid
from datetime import UTC, datetime

from tools import OUT, epoch, version

EXPRESSION = re.compile(r" (AND|OR|WITH) ")


def build(binary, components):
    digest = hashlib.sha256(binary.path.read_bytes()).hexdigest()
    root = {"type": "application", "bom-ref": "pintail", "name": "pintail", "version": version(), "licenses": [{"license": {"id": "Apache-2.0"}}],
            "hashes": [{"alg": "SHA-256", "content": digest}], "purl": f"pkg:generic/pintail@{version()}?arch={binary.arch}"}
    held = {}
    for component in components:
        # A part of DuckDB hangs below DuckDB, DuckDB below the crate that compiles it.
        holder = next((_ref(other) for other in components if other.name == component.of), "pintail")
        held.setdefault(holder, []).append(_ref(component))
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'pintail {version()} {digest}')}",
        "metadata": {"timestamp": datetime.fromtimestamp(epoch(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": root},
        "components": [_entry(component) for component in components],
        "dependencies": [{"ref": ref, "dependsOn": sorted(parts)} for ref, parts in sorted(held.items())],
    }
    path = OUT / f"pintail-{version()}-{binary.target}.cdx.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def _ref(component):
    return component.purl or f"{component.of or 'rust'}/{component.name}".replace(" ", "-")


def _entry(component):
    entry = {"type": "library", "bom-ref": _ref(component), "name": component.name}
    if component.version:
        entry["version"] = component.version
    expression = component.licence
    entry["licenses"] = [{"expression": expression}] if EXPRESSION.search(expression) else [{"license": {"id": expression}}]
    if component.purl:
        entry["purl"] = component.purl
    return entry
