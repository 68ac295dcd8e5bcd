"""What is lost of a directory of files between two looks at it, and what must be reported of that.

Owns: a look (content, inode and time of birth of each file), and the rule that docs/sources/files.md states of files that change.
Does not own: the edits and the reports (see edits.py).
"""
import dataclasses
import gzip
import subprocess

LONG_BYTES = 1024
"""What a file is recognized by."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A file. Once it was read, `whole` is what was read of it."""

    path: str
    inode: str
    content: bytes

    def __str__(self):
        return f"{self.path.rpartition('/')[2]} ({len(self.content)} bytes, inode {self.inode})"

    @property
    def whole(self):
        return self.content[:self.content.rfind(b"\n") + 1]

    @property
    def is_torn(self):
        return self.whole != self.content

    def shows(self, whole):
        """Returns whether it has a KiB at the beginning, or the last one, of what was read: then it is that file, edited."""
        return len(whole) >= LONG_BYTES and (self.content.startswith(whole[:LONG_BYTES]) or whole[-LONG_BYTES:] in self.content)


def look(paths):
    """Looks at files, which nobody edits meanwhile."""
    if not paths:
        return []
    # Python does not tell the time of birth; an inode alone is soon taken again.
    lines = subprocess.run(["stat", "-c", "%i %.9W", *paths], check=True, capture_output=True, text=True).stdout.splitlines()
    return [Seen(str(path), inode, content_of(path)) for path, inode in zip(paths, lines, strict=True)]


def content_of(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    return data


def lost(before, after):
    """Returns the files, all of them read, of which not all is there any more: those that are a gap, and those that have vanished."""
    gone = [file for file in before if file.whole and not any(other.content.startswith(file.whole) for other in after)]
    gaps, vanished = [], []
    # A copy may be known as a part of its original: one report stands for both.
    for file in sorted(gone, key=lambda file: (-len(file.whole), not is_gap(file, after))):
        if not any(longer.whole.startswith(file.whole) for longer in gaps + vanished):
            (gaps if is_gap(file, after) else vanished).append(file)
    return gaps, vanished


def is_gap(file, after):
    """Returns whether a loss is a gap: it was changed in place, was edited and put in its place, or is gone with half a line unread."""
    if any(other.inode == file.inode for other in after):
        return True
    in_its_place = [other for other in after if other.path == file.path]
    return file.is_torn or any(other.shows(file.whole) for other in in_its_place)
