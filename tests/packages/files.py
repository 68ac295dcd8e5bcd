"""The packages that need no system of their own: archive, wheel, bill of materials, checksums.

Owns: what must hold of each.
"""
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from failed import Failed, expect

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "dist/out"


def product(pattern):
    """Returns the one product of a name."""
    found = sorted(OUT.glob(pattern))
    if len(found) != 1:
        raise Failed(f"dist/out has {len(found)} × {pattern}: dist/build makes one")
    return found[0]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def checksums(_):
    said = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=OUT)
    listed = {line.split()[1] for line in (OUT / "SHA256SUMS").read_text().splitlines()}
    expect("what is in dist/out and not listed", {path.name for path in OUT.iterdir()} - listed, {"SHA256SUMS", "pintail"})
    yield f"{len(said.splitlines())} files"


def archive(work):
    packed = product("*-unknown-linux-gnu.tar.gz")
    run("tar", "-xzf", packed, "-C", work)
    top = work / packed.name.removesuffix(".tar.gz")
    use(top / "pintail", work)
    for part in ("LICENSE", "THIRD-PARTY-LICENSES", "README.md", "REQUIREMENTS", "man/pintail.1", "completions/pintail.bash", "completions/_pintail"):
        expect(f"that {part} has text", len((top / part).read_text()) > 0, True)
    complete = f'source {top}/completions/pintail.bash; COMP_WORDS=(pintail ver); COMP_CWORD=1; _pintail pintail ver pintail; echo "${{COMPREPLY[*]}}"'
    expect("what bash makes of `pintail ver`", run("bash", "-c", complete).split(), ["verify"])
    expect("what man makes of the page", "pintail" in run("man", "--local-file", top / "man/pintail.1", env=os.environ | {"MANPAGER": "cat"}).lower(), True)
    texts = (top / "THIRD-PARTY-LICENSES").read_text()
    for name in ("DuckDB", "OpenSSL", "librdkafka", "Zstandard", "zlib", "mimalloc", "tokio", "polars-core", "yyjson", "uPlot"):
        expect(f"that the licence of {name} is there", bool(re.search(rf"^{re.escape(name)} .*\(.+\)$", texts, re.MULTILINE)), True)
    yield f"{packed.stat().st_size / 1e6:.1f} MB; {(top / 'REQUIREMENTS').read_text().strip()}"
    content = packed.read_bytes()
    run(sys.executable, ROOT / "dist/build", "archive", "--binary", top / "pintail")
    expect("that it is packed to the same bytes again", packed.read_bytes() == content, True)
    yield "packed once more: the same bytes"


def use(binary, work, question="count(*)"):
    """Runs a binary from a package: a version, a few events, a question. Returns the answer."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    environment = {"PATH": "/usr/bin:/bin", "OUT_PATH": str(work / "lake"), "HOME": str(work)}
    expect("its version", run(binary, "--version", env=environment).strip(), f"pintail {version}")
    run(binary, "--set", "source.limit=1000", "--set", "source.rate=0", "--set", "admin.listen=", env=environment, cwd=work)
    answer = run(binary, "query", f"SELECT count(*) AS n, {question} AS answer FROM events", "--format", "json", env=environment, cwd=work)
    found = json.loads(answer.splitlines()[0])
    expect("rows", found["n"], 1000)
    return found["answer"]


def sbom(work):
    document = json.loads(product("*.cdx.json").read_text())
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    expect("what the schema of CycloneDX says", str(error)[:1000] if error else None, None)
    named = {(component["name"], component.get("version")) for component in document["components"]}
    engine = use(OUT / "pintail", work, "version()").removeprefix("v")
    expect("that DuckDB is there as the binary has it", ("DuckDB", engine) in named, True)
    crates = run("cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--package", "pintail", "--prefix", "none", "--format", "{p}", cwd=ROOT)
    linked = {tuple(line.split()[:2]) for line in crates.splitlines() if "(/" not in line and line}
    expect("crates that are not there", {name for name, version in linked if (name, version.removeprefix("v")) not in named}, set())
    yield f"valid; {len(linked)} crates, {len(named) - len(linked)} others"


def wheel(work):
    packed = product("*.whl")
    run(sys.executable, "-m", "venv", work / "venv")
    run(work / "venv/bin/pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", packed)
    use(work / "venv/bin/pintail", work)
    said = run(sys.executable, "-m", "auditwheel", "show", packed)
    tag = re.search(r'platform tag: "([^"]+)"', said.replace("\n", " "))[1]
    expect("the tag of the wheel and what auditwheel finds", tag in packed.name, True)
    yield f"{packed.stat().st_size / 1e6:.1f} MB, {tag}; installed by pip without network"
    for arguments in (("--version",), ("demo", "--events", "200000", "--seconds", "5")):
        run(sys.executable, "-m", "uv", "tool", "run", "--offline", "--from", packed, "pintail", *arguments,
            env=os.environ | {"UV_CACHE_DIR": str(work / "uv")})
    yield "`uvx --from WHEEL pintail demo` without network"
    run(work / "venv/bin/pip", "uninstall", "--yes", "pintail")
    expect("that the command is gone after it was uninstalled", (work / "venv/bin/pintail").exists(), False)
