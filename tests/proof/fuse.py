"""The kernel's side of a file system in user space: its requests on `/dev/fuse`, as the calls of a disk, and the answers.

Owns: the protocol (version 7.31 of `linux/fuse.h`, little endian), the mount.
Does not own: what a name or a byte is (see `forgetful.Disk`, which is called for each request). No library: those for Python drop the flags of
`renameat2`, and give a file that is removed while it is open another name.
"""
import ctypes
import errno
import os
import stat
import struct
import time

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR, RENAME, LINK, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT = 20, 25, 26, 27, 28, 29, 30, 34, 35, 36
DESTROY, BATCH_FORGET, RENAME2 = 38, 42, 45
UNANSWERED = {FORGET, BATCH_FORGET, INTERRUPT, DESTROY}
CHANGING = {SETATTR, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, FSYNC, FSYNCDIR, CREATE, RENAME2}
"""Requests that change the disk or make something durable."""

REQUEST = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<6Q10I")
ENTRY = struct.Struct("<4Q2I")
SET = struct.Struct("<2I6Q8I")
SET_SIZE, SET_MTIME, SET_MTIME_NOW = 1 << 3, 1 << 5, 1 << 8
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
KEEP_CACHE = 1 << 1
PAGE, PAGES = 4096, 256
RENAME_NOREPLACE = 1
# Nobody else changes anything, so the kernel need never ask again.
VALID_SECONDS = 3600
DETACH = 2


class Mount:
    """A mounted disk, from `mount` to `end`. `disk` has a method for each request; an `OSError` of it is the answer."""

    def __init__(self, path, disk, links=False):
        self.path, self.disk = os.fsencode(path), disk
        self.links = links
        """Whether it knows no `RENAME_NOREPLACE`."""
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.buffer = bytearray(PAGE * (PAGES + 1))
        self.listings = {}
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.fd},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}".encode()
        if libc.mount(b"forgetful", self.path, b"fuse.forgetful", 0, options) != 0:
            raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}")
        self.libc = libc

    def end(self):
        """Unmounts it. Requests that were not answered fail."""
        self.libc.umount2(self.path, DETACH)
        os.close(self.fd)

    def take(self):
        """Reads a request and carries it out. Returns it, to be answered or not: (opcode, unique, answer); None once it is unmounted."""
        try:
            size = os.readv(self.fd, [self.buffer])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            if error.errno in (errno.ENOENT, errno.EINTR):
                return INTERRUPT, 0, b""
            raise
        _, opcode, unique, node, *_ = REQUEST.unpack_from(self.buffer)
        try:
            answer = self._carry_out(opcode, node, memoryview(self.buffer)[REQUEST.size:size])
            return opcode, unique, answer
        except OSError as error:
            return opcode, unique, error.errno

    def answer(self, request):
        opcode, unique, answer = request
        if opcode in UNANSWERED:
            return
        code, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
        try:
            os.writev(self.fd, [ANSWER.pack(ANSWER.size + len(body), code, unique), body])
        except OSError as error:
            # The caller was killed meanwhile.
            if error.errno != errno.ENOENT:
                raise

    def _carry_out(self, opcode, node, body):
        disk = self.disk
        if opcode == LOOKUP:
            return self._entry(disk.lookup(node, name(body)))
        if opcode == GETATTR:
            return self._attributes(node)
        if opcode == SETATTR:
            valid, _, _, size, _, _, mtime, _, _, nanos, *_ = SET.unpack_from(body)
            if valid & SET_SIZE:
                disk.truncate(node, size)
            if valid & SET_MTIME:
                disk.touch(node, time.time_ns() if valid & SET_MTIME_NOW else mtime * 10**9 + nanos)
            return self._attributes(node)
        if opcode == MKDIR:
            return self._entry(disk.make_dir(node, name(body[8:])))
        if opcode == CREATE:
            return self._entry(disk.make_file(node, name(body[16:]))) + struct.pack("<QII", 0, KEEP_CACHE, 0)
        if opcode == LINK:
            target, = struct.unpack_from("<Q", body)
            return self._entry(disk.link(target, node, name(body[8:])))
        if opcode == UNLINK:
            return disk.remove(node, name(body)) or b""
        if opcode == RMDIR:
            return disk.remove_dir(node, name(body)) or b""
        if opcode in (RENAME, RENAME2):
            return self._rename(opcode, node, body)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, KEEP_CACHE if opcode == OPEN else 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return disk.read(node, offset, size)
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            disk.write(node, offset, body[40:40 + size])
            return struct.pack("<II", size, 0)
        if opcode == READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._listing(node, offset, size)
        if opcode in (FSYNC, FSYNCDIR):
            return disk.sync(node) or b""
        if opcode == STATFS:
            blocks, free, inodes = 1 << 24, 1 << 23, 1 << 20
            return struct.pack("<5Q4I6I", blocks, free, free, inodes, inodes, PAGE, 255, PAGE, 0, *[0] * 6)
        if opcode == INIT:
            return self._initial(body)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, ACCESS, *UNANSWERED):
            return b""
        raise OSError(errno.ENOSYS, f"request {opcode}")

    def _initial(self, body):
        major, minor, readahead, flags = struct.unpack_from("<4I", body)
        if major != 7 or minor < 31:
            raise OSError(errno.EPROTO, f"the kernel speaks version {major}.{minor} of FUSE")
        return struct.pack("<4I2H2I2H8I", 7, 31, readahead, flags & (BIG_WRITES | MAX_PAGES), 16, 12, PAGE * PAGES, 1, PAGES, 0, *[0] * 8)

    def _rename(self, opcode, node, body):
        target, flags = struct.unpack_from("<QI", body)
        if opcode == RENAME:
            flags, names = 0, bytes(body[8:])
        else:
            names = bytes(body[16:])
            # The kernel makes EINVAL of it and does not ask again.
            if self.links:
                raise OSError(errno.ENOSYS, "rename with flags")
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "rename with other flags")
        old, new = names.split(b"\0")[:2]
        self.disk.rename(node, os.fsdecode(old), target, os.fsdecode(new), replace=not flags)
        return b""

    def _entry(self, node):
        return ENTRY.pack(node, 0, VALID_SECONDS, VALID_SECONDS, 0, 0) + self._packed(node)

    def _attributes(self, node):
        return struct.pack("<QII", VALID_SECONDS, 0, 0) + self._packed(node)

    def _packed(self, node):
        is_dir, size, nanos, links = self.disk.attributes(node)
        mode = stat.S_IFDIR | 0o755 if is_dir else stat.S_IFREG | 0o644
        seconds, rest = divmod(nanos, 10**9)
        return ATTRIBUTES.pack(node, size, -(-size // 512), seconds, seconds, seconds, rest, rest, rest, mode, links, os.geteuid(), os.getegid(),
                               0, PAGE, 0)

    def _listing(self, node, offset, size):
        # One who reads a directory in parts gets what was there at its first part.
        if offset == 0:
            self.listings[node] = self.disk.names(node)
        answer = bytearray()
        for at, (entry, inode, is_dir) in list(enumerate(self.listings.get(node, ())))[offset:]:
            entry = os.fsencode(entry)
            packed = struct.pack("<QQII", inode, at + 1, len(entry), (stat.S_IFDIR if is_dir else stat.S_IFREG) >> 12) + entry
            packed += b"\0" * (-len(packed) % 8)
            if len(answer) + len(packed) > size:
                break
            answer += packed
        return bytes(answer)


def name(body):
    return os.fsdecode(bytes(body).partition(b"\0")[0])
