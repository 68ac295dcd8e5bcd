#!/usr/bin/env python3
"""Shows that DuckDB is compiled once, whichever part of the workspace is built, and not at all for the pure members. Compiles nothing.

    python3 .ci/one_build.py

Cargo resolves the features of a member that is built alone without looking at the others. If a crate below `libduckdb-sys` had other features then,
DuckDB would be compiled again for it: 25 minutes.

The graph of units is what cargo itself builds from. `cargo tree` prints a crate that is built twice with other features once, and so says less.
"""
import json
import os
import subprocess
import sys

BELOW = "libduckdb-sys"
SELECTIONS = {
    "the workspace": [],
    "the program": ["--package", "pintail"],
    "the program without brokers": ["--package", "pintail", "--no-default-features", "--features", "admin,bundled,http"],
    "pintail-duckdb alone": ["--package", "pintail-duckdb"],
}
# These build and are tested without a C++ compiler, Polars, OpenSSL and a client of a broker.
PURE = ["core", "storage", "decode", "sink", "settings", "config", "sources", "bucket", "tables"]
NOT_PURE = ["libduckdb-sys", "duckdb@", "polars", "openssl-sys", "rdkafka", "async-nats"]


def units_of(verb, selection):
    """Returns what cargo would compile."""
    command = ["cargo", *verb, "--release", "--locked", "--unit-graph", "-Z", "unstable-options", *selection]
    graph = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1"}).stdout
    return json.loads(graph)["units"]


def below(selection):
    """Returns the units that `libduckdb-sys` is built from, each with its features."""
    units = units_of(["build"], selection)
    found = {index for index, unit in enumerate(units) if BELOW in unit["pkg_id"]}
    if not found:
        sys.exit(f"{BELOW} is not below `cargo build {' '.join(selection)}`")
    left = list(found)
    while left:
        new = {dependency["index"] for dependency in units[left.pop()]["dependencies"]} - found
        found |= new
        left += new
    name = "{0[pkg_id]} ({0[mode]}, {0[target][kind][0]}): {1}"
    return {name.format(units[index], ",".join(units[index]["features"])) for index in found}


def main():
    whole = below(SELECTIONS["the workspace"])
    agree = True
    for name, selection in SELECTIONS.items():
        for unit in sorted(below(selection) ^ whole):
            agree = False
            print(f"{name}, or the workspace, but not both: {unit}")
    if not agree:
        sys.exit("give the missing features to the crates in `[build-dependencies]` of crates/duckdb/Cargo.toml")
    print(f"{len(whole)} units are the same in {len(SELECTIONS)} selections")
    members = [part for member in PURE for part in ("--package", f"pintail-{member}")]
    packages = {unit["pkg_id"] for unit in units_of(["test", "--no-run"], [*members, "--no-default-features"])}
    if found := sorted(package for package in packages if any(name in package for name in NOT_PURE)):
        sys.exit(f"the tests of the pure members would compile {', '.join(found)}")
    print(f"{len(PURE)} members are tested without C++: {len(packages)} packages")


if __name__ == "__main__":
    main()
