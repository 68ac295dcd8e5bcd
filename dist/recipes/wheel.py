"""The wheel: the binary as a package of Python, for `pip install`, `pipx` and `uvx`.

Owns: how maturin is called. The tag is its own: it reads the symbols of the binary and names the oldest manylinux that has them.
Does not own: what is in the package (see ../python/pyproject.toml).
"""
import os
import shutil

from tools import OUT, ROOT, Failed, epoch, run


def build():
    # maturin takes licences and the description from files beside pyproject.toml.
    for name in ("LICENSE", "README.md"):
        shutil.copy(ROOT / name, ROOT / "dist/python" / name)
    before = set(OUT.glob("*.whl"))
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch())}
    run("maturin", "build", "--release", "--locked", "--strip", "--manifest-path", ROOT / "dist/python/pyproject.toml", "--out", OUT, env=environment)
    made = [path for path in OUT.glob("*.whl") if path not in before] or list(before)
    if len(made) != 1:
        raise Failed(f"dist/out has {len(made)} wheels: remove the old ones")
    return made[0]
