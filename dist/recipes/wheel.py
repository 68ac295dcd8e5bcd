"""The wheel: the binary as a package of Python, for `pip install`, `pipx` and `uvx`.

Owns: how maturin is called. The tag is maturin's: it reads the symbols of the binary and names the oldest manylinux that has them.
Does not own: what is in the package (see ../python/pyproject.toml).
"""
import os
import re
import shutil

import licences
import linked
from tools import OUT, ROOT, Failed, run, version

PACKAGE = ROOT / "dist/python"


def build():
    # maturin takes the description and the licences from files beside pyproject.toml.
    for name in ("LICENSE", "README.md"):
        shutil.copy(ROOT / name, PACKAGE / name)
    host = re.search(r"host: (\S+)", run("rustc", "--version", "--verbose", cwd=ROOT))[1]
    (PACKAGE / "THIRD-PARTY-LICENSES").write_text(licences.text(linked.components(host)))
    for old in OUT.glob(f"pintail-{version()}-*.whl"):
        old.unlink()
    # The flags of `cargo build --release` but for the last crate, so that what that has compiled is taken. SOURCE_DATE_EPOCH would be a reason for
    # cargo to compile all of C and C++ again, DuckDB included; without it, maturin gives the files of a wheel a time that is always the same.
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    run("maturin", "build", "--release", "--locked", "--strip", "--out", OUT, cwd=PACKAGE, env=environment)
    made = list(OUT.glob(f"pintail-{version()}-*.whl"))
    if len(made) != 1:
        raise Failed(f"maturin made {len(made)} wheels of version {version()}")
    return made[0]
