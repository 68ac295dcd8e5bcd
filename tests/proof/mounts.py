"""Small disks that fill up.

Owns: a mount namespace of this process alone (whatever ends it, nothing stays mounted), tmpfs of a given number of pages or inodes, an ext4
image, and making room on them.
Does not own: what is written there.
"""
import os
import resource
import shutil
import subprocess
import sys

ENTERED = "PINTAIL_PROOF_MOUNT_NAMESPACE"
PAGE = resource.getpagesize()
AMPLE_BYTES, AMPLE_INODES = 256 << 20, 100_000
IMAGE_BYTES = 8 << 20


def enter_namespace():
    """Starts the same command again in a mount namespace of its own; one who is not root becomes root there, and only there."""
    if os.environ.get(ENTERED):
        return
    unshare = shutil.which("unshare")
    if not unshare:
        sys.exit("`unshare` is missing: apt-get install util-linux")
    command = [unshare, "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if tried.returncode != 0:
        sys.exit(f"no leave to mount a small disk, so nothing was proven: {tried.stderr.strip()} (run as root, in a container with --privileged)")
    os.environ[ENTERED] = "1"
    os.execv(unshare, [*command, sys.executable, *sys.orig_argv[1:]])


class Disk:
    """A mounted directory with little room. A context: unmounted at its end."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.path.mkdir(parents=True)
        self.mount()
        return self

    def __exit__(self, *_):
        # Lazily: a process that is about to die may still hold it.
        run("umount", "-l", self.path)

    def used(self):
        """Returns the blocks and inodes in use."""
        status = os.statvfs(self.path)
        return status.f_blocks - status.f_bfree, status.f_files - status.f_ffree


class Tmpfs(Disk):
    """Room is made by mounting it anew, larger."""

    def __init__(self, path, pages=AMPLE_BYTES // PAGE, inodes=AMPLE_INODES):
        super().__init__(path)
        self.pages, self.inodes = pages, inodes

    def mount(self):
        run("mount", "-t", "tmpfs", "-o", f"size={self.pages * PAGE},nr_inodes={self.inodes}", "tmpfs", self.path)

    def make_room(self):
        run("mount", "-o", f"remount,size={AMPLE_BYTES},nr_inodes={AMPLE_INODES}", self.path)


class Ballast(Tmpfs):
    """Room is made by removing a file that took it."""

    def mount(self):
        pages, self.pages = self.pages, AMPLE_BYTES // PAGE
        super().mount()
        with open(self.path / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, (self.pages - pages) * PAGE)

    def make_room(self):
        (self.path / "ballast").unlink(missing_ok=True)


class Ext4(Ballast):
    """An image with blocks of 1 KiB, where a directory takes room as well: `mkdir` finds the disk full, too. For root."""

    def mount(self):
        image = self.path.with_suffix(".ext4")
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-b", "1024", "-m", "0", "-N", "2000", image)
        run("mount", "-o", "loop", image, self.path)
        free = os.statvfs(self.path).f_bavail * 1024
        with open(self.path / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, free - self.pages * 1024)
            os.fsync(ballast.fileno())


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
