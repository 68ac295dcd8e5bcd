#!/usr/bin/env python3
"""Checks examples/grafana-dashboard.json against the real /metrics.

    python3 tests/page/dashboard.py

Every metric that a panel asks for is there, with the labels by which it is grouped, selected and named; rates are taken of counters
only; panels do not overlap. Prometheus' `promtool` parses each expression and lints /metrics.

Owns: the checks.
Does not own: Grafana: whether it draws what is meant, is seen there.
"""
import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/proof"))

from process import Pintail, default_binary

DASHBOARD = ROOT / "examples/grafana-dashboard.json"
METRIC = re.compile(r"\b(?:pintail|process)_[a-z0-9_]+\b")
FROM_PROMETHEUS = {"instance", "job", "le"}
GRID_WIDTH = 24
SAMPLED, SAMPLED_SECONDS = "\npintail_duckdb_memory_bytes ", 20
"""The one figure that is not there from the beginning: it is asked for every few seconds."""


class Metrics:
    """What /metrics holds: the labels of each series name, the type of each metric."""

    def __init__(self, text):
        self.labels, self.types = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.types[name] = kind
            elif line and not line.startswith("#"):
                name, labels = re.match(r"([a-zA-Z0-9_:]+)(?:\{(.*)\})? ", line).groups()
                self.labels.setdefault(name, set()).update(re.findall(r'(\w+)="', labels or ""))

    def can_be_rated(self, name):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        return self.types.get(name) == "counter" or self.types.get(base) == "histogram"


def scrape_both(binary):
    """Returns /metrics of a service that counts its lag in records, and of one that counts it in bytes: none has both."""
    with tempfile.TemporaryDirectory(prefix="pintail-dashboard-") as work:
        source = Path(work) / "events.ndjson"
        source.write_text('{"timestamp": 1767225600000}\n')
        ends = {"source.limit": 1_000_000_000}
        follows = {"source.type": "file", "source.path": str(source), "source.follow": True}
        return [scrape(binary, work, "records", 2, ends), scrape(binary, work, "bytes", 1, follows)]


def scrape(binary, work, name, commits, settings):
    """Returns /metrics of a service with some checkpoints behind it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {"admin.listen": f"127.0.0.1:{port}", "pipeline.checkpoint_interval": "500ms", "pipeline.out_path": name, "log.format": "json"}
    with Pintail(binary, config | settings, work) as pintail:
        pintail.wait_commits(commits)
        end = time.monotonic() + SAMPLED_SECONDS
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            if SAMPLED in text or time.monotonic() > end:
                return text
            time.sleep(0.2)


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions(dashboard):
    """Yields (where, expression, legend) of every query."""
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            yield f"{panel['title']!r} {target['refId']}", target["expr"], target.get("legendFormat", "")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']!r}", variable["query"]["query"], ""


def faults_of_queries(dashboard, metrics):
    for where, expression, legend in expressions(dashboard):
        names = set(METRIC.findall(expression))
        if not names:
            yield f"{where} asks for no metric: {expression}"
        for name in sorted(names - set(metrics.labels)):
            yield f"{where} asks for {name}, which /metrics does not have"
        labels = FROM_PROMETHEUS.union(*(metrics.labels.get(name, ()) for name in names))
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)) | set(re.findall(r"\{\{(\w+)\}\}", legend))
        for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
            asked |= {label.strip() for label in group.split(",") if label.strip()}
        for label in sorted(asked - labels):
            yield f"{where} asks for the label {label}, which its metrics do not have"
        for name in re.findall(r"\b(?:rate|irate|increase)\(([a-z0-9_]+)", expression):
            if name in metrics.labels and not metrics.can_be_rated(name):
                yield f"{where} takes the rate of {name}, which is no counter"


def faults_of_layout(dashboard):
    seen, taken = set(), {}
    for panel in panels_of(dashboard):
        where, place = panel.get("title") or f"panel {panel.get('id')}", panel["gridPos"]
        if panel["id"] in seen:
            yield f"{where!r} has the id of another panel"
        seen.add(panel["id"])
        if panel["type"] != "row" and not (panel.get("targets") and panel.get("description")):
            yield f"{where!r} has no query or no description"
        if panel.get("datasource", {}).get("uid", "${datasource}") != "${datasource}":
            yield f"{where!r} is bound to one Prometheus instead of the variable"
        if place["x"] + place["w"] > GRID_WIDTH:
            yield f"{where!r} is wider than the grid"
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            if cell in taken:
                yield f"{where!r} lies over {taken[cell]!r}"
                break
            taken[cell] = where


def faults_by_promtool(dashboard, texts):
    """Parses each expression as Prometheus does, and lints /metrics."""
    variables = {"$__rate_interval": "1m", "$__interval": "1m", "$instance": ".*", "$__range": "1h"}
    rules = []
    for where, expression, _ in expressions(dashboard):
        if expression.startswith("label_values("):
            continue
        for name, value in variables.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"checked:{len(rules)}", "expr": expression})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        parsed = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
    if parsed.returncode != 0:
        yield f"promtool check rules: {parsed.stderr.strip()}"
    for text in texts:
        linted = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        if linted.returncode != 0:
            yield f"promtool check metrics: {linted.stderr.strip() or linted.stdout.strip()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    options = parser.parse_args()
    if not os.access(options.binary, os.X_OK):
        parser.error(f"{options.binary} must be a program")
    if not shutil.which("promtool"):
        parser.error("it takes promtool: apt-get install prometheus")
    dashboard, texts = json.loads(DASHBOARD.read_text()), scrape_both(options.binary)
    metrics = Metrics("\n".join(texts))
    faults = [*faults_of_layout(dashboard), *faults_of_queries(dashboard, metrics), *faults_by_promtool(dashboard, texts)]
    queries = [expression for _, expression, _ in expressions(dashboard)]
    used = {name for expression in queries for name in METRIC.findall(expression)}
    own = {name for name in metrics.types if name.startswith("pintail_")}
    unused = sorted(name for name in own if not any(each.startswith(name) for each in used))
    print(f"{len(queries)} queries over {len(used)} series names; not drawn: {', '.join(unused) or 'none'}")
    for fault in faults:
        print(f"FAILED: {fault}")
    print("failed" if faults else "passed")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
