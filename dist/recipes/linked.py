"""What is linked into the binary, with versions and licences.

Owns: the list of components: crates (by cargo), C and C++ that crates compile and their vendored parts, the script of the page.
Does not own: how the list is written (see sbom.py, licences.py).

A library in C that is new to the tree, or a part that DuckDB has taken in since, fails the recipe until it has its line here.
"""
import functools
import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tools import ROOT, Failed, run

LICENCE_FILE = re.compile(r"(?i)(licen[cs]e|copying|notice|copyright|unlicense)")
SOURCE_FILE = re.compile(r"\.(c|cc|cpp|h|hpp)$|/fast_float$")

# Crates that compile C or C++: what that is, its licence, its files of licence, and where its version stands.
NATIVE = {
    "libduckdb-sys": ("DuckDB", "MIT", ["LICENSE"], None),
    "libmimalloc-sys": ("mimalloc", "MIT", ["c_src/mimalloc/v3/LICENSE"], ("c_src/mimalloc/v3/include/mimalloc.h", r"MI_MALLOC_VERSION\s+(\d+)")),
    "libz-sys": ("zlib", "Zlib", ["src/zlib/LICENSE"], ("src/zlib/zlib.h", r'ZLIB_VERSION "([^"]+)"')),
    "openssl-src": ("OpenSSL", "Apache-2.0", ["openssl/LICENSE.txt"], None),
    "rdkafka-sys": ("librdkafka", "BSD-2-Clause", ["librdkafka/LICENSES.txt"], None),
    "zstd-sys": ("Zstandard", "BSD-3-Clause", ["zstd/LICENSE"], None),
}
# They `link` nothing of others: a name that only keeps two versions apart, their own assembler, or what another crate compiles.
NOT_NATIVE = {"openssl-sys", "rayon-core", "ring"}

# Words of a licence's own text, and a file of it for those that only name it.
WHOLE = {"MIT": ("permission is hereby granted", ROOT / "dist/licences/MIT.txt"), "Apache-2.0": ("terms and conditions for use", ROOT / "LICENSE"),
         "BSD-3-Clause": ("redistribution and use", ROOT / "dist/licences/BSD-3-Clause.txt")}

# Below DuckDB's third_party: its licence, and the file and pattern of its version.
DUCKDB_PARTS = {
    "brotli": ("MIT", None), "concurrentqueue": ("BSD-2-Clause AND Zlib", None), "fast_float": ("MIT", None), "fastpforlib": ("Apache-2.0", None),
    "fmt": ("MIT", None), "fsst": ("MIT", None), "httplib": ("MIT", ("httplib.hpp", r'CPPHTTPLIB_VERSION "([^"]+)"')),
    "hyperloglog": ("BSD-3-Clause", None), "jaro_winkler": ("MIT", None), "lz4": ("BSD-2-Clause", ("lz4.hpp", r"VERSION_(?:MAJOR|MINOR|RELEASE)\s+(\d+)")),
    "mbedtls": ("Apache-2.0", ("include/mbedtls/build_info.h", r'MBEDTLS_VERSION_STRING\s+"([^"]+)"')),
    "miniz": ("MIT", ("miniz.hpp", r'MZ_VERSION "([^"]+)"')),
    "parquet": ("Apache-2.0", None), "pcg": ("Apache-2.0 OR MIT", None), "pdqsort": ("Zlib", None), "re2": ("BSD-3-Clause", None),
    "ska_sort": ("BSL-1.0", None), "skiplist": ("MIT", None), "snappy": ("BSD-3-Clause", None), "tdigest": ("Apache-2.0", None),
    "thrift": ("Apache-2.0", None), "utf8proc": ("MIT AND Unicode-DFS-2015", ("include/utf8proc.hpp", r"VERSION_(?:MAJOR|MINOR|PATCH)\s+(\d+)")),
    "vergesort": ("MIT", None), "yyjson": ("MIT", ("include/yyjson.hpp", r'VERSION_STRING\s+"([^"]+)"')),
    "zstd": ("BSD-3-Clause", ("include/zstd.h", r"define ZSTD_VERSION_(?:MAJOR|MINOR|RELEASE)\s+(\d+)")),
}


@dataclass
class Component:
    """A thing that is linked in. `of` is the name of the component that holds it, and `purl` what package managers call it."""
    name: str
    version: str | None
    licence: str
    texts: dict[str, str] = field(default_factory=dict)
    purl: str | None = None
    of: str | None = None


def components(target):
    """Returns all components for a target triple, crates first, each group by name."""
    packages = _packages(target)
    crates = [_crate(package) for package in packages if package["source"]]
    native = [part for package in packages if package["name"] in NATIVE for part in _native(package)]
    found = crates + native + [_uplot(), _rust()]
    for component in found:
        _complete(component)
    return found


def _complete(component):
    """Adds the text of the licence where the sources only name it."""
    words, file = WHOLE.get(component.licence, ("", None))
    if file and words not in " ".join(" ".join(component.texts.values()).lower().split()):
        component.texts[component.licence] = _text(file)


def _packages(target):
    """Returns the packages of which code is in the binary, and those that bring sources of C, as `cargo metadata` has them."""
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, cwd=ROOT))
    # Macros run in the compiler, build scripts before it. Only the sources of OpenSSL come by a build dependency.
    listed = run("cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--package", "pintail", "--prefix", "none",
                 "--format", "{p}", cwd=ROOT)
    linked = {tuple(line.split()[:2]) for line in listed.splitlines()}
    packages = [package for package in metadata["packages"]
                if (package["name"], "v" + package["version"]) in linked or package["name"] == "openssl-src"]
    unknown = {package["name"] for package in packages if package["links"]} - NATIVE.keys() - NOT_NATIVE
    if unknown:
        raise Failed(f"dist/recipes/linked.py does not know what {', '.join(sorted(unknown))} links: add it to NATIVE")
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def _crate(package):
    directory = Path(package["manifest_path"]).parent
    texts = {path.name: _text(path) for path in sorted(directory.iterdir()) if path.is_file() and LICENCE_FILE.match(path.name)}
    if not texts:
        # Some publish only the name of their licence.
        holders = ", ".join(package["authors"]) or f"the authors of {package['name']}"
        texts = {"Cargo.toml": f"Copyright: {holders}\nLicence: {package['license']}"}
    return Component(package["name"], package["version"], package["license"].replace("/", " OR "), texts, f"pkg:cargo/{package['name']}@{package['version']}")


def _native(package):
    name, licence, files, version_at = NATIVE[package["name"]]
    directory = Path(package["manifest_path"]).parent
    texts = {file: _text(directory / file) for file in files}
    if package["name"] == "libduckdb-sys":
        return _duckdb(directory / "duckdb.tar.gz", texts)
    # A crate's version may end with that of what it holds: 4.10.0+2.12.1.
    version = _version_in(_text(directory / version_at[0]), version_at[1]) if version_at else package["version"].split("+")[1].removeprefix("zstd.")
    return [Component(name, version, licence, texts, of=package["name"])]


def _duckdb(archive, texts):
    with tarfile.open(archive) as tar:
        sources = {member.name: tar.extractfile(member).read().decode(errors="replace") for member in tar
                   if member.isfile() and (member.name.startswith("duckdb/third_party/") or "/function/table/version/" in member.name)}
    version = _version_in("".join(sources.values()), r'define DUCKDB_VERSION "v([^"]+)"')
    parts = sorted({name.split("/")[2] for name in sources if name.startswith("duckdb/third_party/")})
    if unknown := set(parts) - DUCKDB_PARTS.keys():
        raise Failed(f"dist/recipes/linked.py does not know DuckDB's third_party/{', '.join(sorted(unknown))}: add it to DUCKDB_PARTS")
    found = [Component("DuckDB", version, "MIT", texts, f"pkg:github/duckdb/duckdb@v{version}", of="libduckdb-sys")]
    for part in parts:
        licence, version_at = DUCKDB_PARTS[part]
        below = f"duckdb/third_party/{part}/"
        own = {name.removeprefix(below): text for name, text in sources.items() if name.startswith(below) and SOURCE_FILE.search(name)}
        number = _version_in(own[version_at[0]], version_at[1]) if version_at else None
        found.append(Component(part, number, licence, _notices(own), of="DuckDB"))
    return found


def _version_in(text, pattern):
    """Returns the version that a header defines: as text, in three numbers, or in one as mimalloc does (30302)."""
    found = re.findall(pattern, text)[:3]
    if not found:
        raise Failed(f"no version by the pattern {pattern}")
    version = ".".join(found)
    return f"{version[:-4]}.{int(version[-4:-2])}.{int(version[-2:])}" if version.isdigit() else version


def _notices(sources):
    """Returns what the heads of source files say of copyright and licence, each text once: DuckDB's archive has no files for that."""
    found, seen = {}, set()
    for name, text in sorted(sources.items()):
        for comment in re.findall(r"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+", text, re.DOTALL | re.MULTILINE):
            lines = [re.sub(r"^[ \t]*(?:/\*+|\*+/|\*|//+)?[ \t]?|[ \t]*\*+/$", "", line).rstrip() for line in comment.splitlines()]
            notice = "\n".join(lines).strip()
            if re.search(r"(?i)copyright|licen[cs]e|\(c\)", notice) and notice not in seen:
                seen.add(notice)
                found[name] = f"{found[name]}\n\n{notice}" if name in found else notice
    return found


def _uplot():
    page = ROOT / "src/admin/page"
    version = re.search(r"uPlot.*? ([0-9.]+), MIT", _text(page / "README.md"))[1]
    return Component("uPlot", version, "MIT", {"uplot.LICENSE": _text(page / "uplot.LICENSE")}, f"pkg:npm/uplot@{version}")


@functools.cache
def _rust():
    """The standard library, which every program of Rust has in it."""
    version = run("rustc", "--version", cwd=ROOT).split()[1]
    licences = Path(run("rustc", "--print", "sysroot", cwd=ROOT).strip()) / "share/doc/rust/licenses"
    texts = {name: _text(licences / name) for name in ("MIT.txt", "Apache-2.0.txt") if (licences / name).is_file()}
    notice = {"COPYRIGHT": "Copyright (c) The Rust Project Contributors"}
    return Component("Rust standard library", version, "MIT OR Apache-2.0", notice | texts)


def _text(path):
    return Path(path).read_text(errors="replace").replace("\r\n", "\n").strip()
