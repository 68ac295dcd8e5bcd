"""The archive: the binary with what belongs to it, for any Linux with a new enough glibc.

Owns: its name and content.
"""
import licences
from tools import OUT, ROOT, pages, tar_gz, version


def build(binary, components):
    top = f"pintail-{version()}-{binary.target}"
    files = {"pintail": (binary.path.read_bytes(), 0o755)}
    files |= {name: ((ROOT / name).read_bytes(), 0o644) for name in ("LICENSE", "README.md", "CHANGELOG.md", "config.example.toml")}
    files |= {name: (content, 0o644) for name, content in pages().items()}
    files |= {f"completions/{name}": (text.encode(), 0o644) for name, text in binary.completions().items()}
    files |= {f"man/{name}": (text.encode(), 0o644) for name, text in binary.man().items()}
    files["THIRD-PARTY-LICENSES"] = licences.text(components).encode(), 0o644
    files["REQUIREMENTS"] = f"Needs {binary.requirements}.\n".encode(), 0o644
    path = OUT / f"{top}.tar.gz"
    tar_gz(path, top, files)
    return path
