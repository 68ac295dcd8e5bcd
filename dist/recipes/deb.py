"""The package for Debian and its like.

Owns: the tree that is packed, its control files and its copyright file.
Does not own: the unit, the configuration and the maintainer's scripts (see ../deb).
"""
import gzip
import hashlib
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import licences
from binary import DEBIAN
from tools import OUT, ROOT, epoch, pages, run, version

SOURCE = ROOT / "dist/deb"
COMPLETIONS = {"pintail.bash": "usr/share/bash-completion/completions/pintail", "_pintail": "usr/share/zsh/vendor-completions/_pintail",
               "pintail.fish": "usr/share/fish/vendor_completions.d/pintail.fish"}
CONFFILE = "etc/pintail/pintail.toml"
DOC = "usr/share/doc/pintail"
# As Debian's own tools have it.
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'The Pintail authors')} <{os.environ.get('DEBEMAIL', 'pintail@localhost')}>"
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: pintail
Comment: What is linked into the binary, with the texts of the licences: /usr/share/doc/pintail/THIRD-PARTY-LICENSES.gz

Files: *
Copyright: 2026 The Pintail authors
License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
"""


def build(binary, components):
    arch = DEBIAN[binary.arch]
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        for name, content in _files(binary, components).items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _modes(tree)
        size = sum(path.lstat().st_size for path in tree.rglob("*")) // 1024
        control = (SOURCE / "control").read_text()
        for field, value in {"VERSION": version(), "ARCH": arch, "SIZE": str(size), "DEPENDS": _depends(Path(work), tree), "MAINTAINER": MAINTAINER}.items():
            control = control.replace(f"@{field}@", value)
        _control_files(tree, control)
        path = OUT / f"pintail_{version()}-1_{arch}.deb"
        # Another DPKG_DEB_COMPRESSOR_TYPE (gzip, zstd) takes a tenth of the time for half as many bytes again.
        run("dpkg-deb", "--root-owner-group", "--build", tree, path,
            env={"DPKG_DEB_COMPRESSOR_TYPE": "xz"} | os.environ | {"SOURCE_DATE_EPOCH": str(epoch())})
    return path


def _files(binary, components):
    """Returns what is installed: path to bytes."""
    files = {"usr/bin/pintail": binary.path.read_bytes(), CONFFILE: (SOURCE / "pintail.toml").read_bytes(),
             "lib/systemd/system/pintail.service": (SOURCE / "pintail.service").read_bytes(),
             "usr/lib/sysusers.d/pintail.conf": (SOURCE / "sysusers.conf").read_bytes(),
             f"{DOC}/README.md": (ROOT / "README.md").read_bytes(),
             f"{DOC}/config.example.toml": (ROOT / "config.example.toml").read_bytes(), f"{DOC}/copyright": COPYRIGHT.encode(),
             f"{DOC}/THIRD-PARTY-LICENSES.gz": _packed(licences.text(components)), f"{DOC}/changelog.Debian.gz": _packed(_changelog())}
    files |= {f"{DOC}/{name}": content for name, content in pages().items()}
    files |= {f"usr/share/man/man1/{name}.gz": _packed(text) for name, text in binary.man().items()}
    return files | {COMPLETIONS[name]: text.encode() for name, text in binary.completions().items()}


def _packed(text):
    return gzip.compress(text.encode(), 9, mtime=0)


def _changelog():
    date = datetime.fromtimestamp(epoch(), UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return f"pintail ({version()}-1) unstable; urgency=medium\n\n  * Version {version()}.\n\n -- {MAINTAINER}  {date}\n"


def _modes(tree):
    """Gives files and directories modes that do not depend on who packs."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _depends(work, tree):
    """Asks Debian's own tool which versions of which packages have the symbols that the binary takes."""
    (work / "debian").mkdir()
    (work / "debian/control").write_text("Source: pintail\n\nPackage: pintail\nArchitecture: any\n")
    said = run("dpkg-shlibdeps", "-O", "-e", tree / "usr/bin/pintail", cwd=work)
    return said.strip().removeprefix("shlibs:Depends=")


def _control_files(tree, control):
    directory = tree / "DEBIAN"
    directory.mkdir()
    sums = {path.relative_to(tree): hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(tree.rglob("*"))
            if path.is_file() and path != tree / CONFFILE}
    (directory / "control").write_text(control)
    (directory / "conffiles").write_text(f"/{CONFFILE}\n")
    (directory / "md5sums").write_text("".join(f"{digest}  {path}\n" for path, digest in sums.items()))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(SOURCE / name, directory / name)
        (directory / name).chmod(0o755)
    directory.chmod(0o755)
    for name in ("control", "conffiles", "md5sums"):
        (directory / name).chmod(0o644)
