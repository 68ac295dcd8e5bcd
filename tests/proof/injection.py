#!/usr/bin/env python3
"""Faults at chosen system calls: before each one that touches the dataset, the kernel asks here what shall become of it.

    python3 injection.py ADDRESS PROGRAM ARGUMENT...      what `Interposer.prefix` runs: installs the filter, becomes the program

A seccomp filter (`SECCOMP_RET_USER_NOTIF`) stops the calling thread *before* the call; an error stands in for the call, which then never
happened, and so does a kill. `strace -e inject=…:when=n` does the same, but counts n for each thread alone: the line's disk work moves
between the threads of a pool, so a sweep over n would leave calls out and hit others twice. Here n counts the calls of the whole process,
only those on paths below the given roots, and nothing else of the process is slowed down.

Owns: the filter, the counting, the fault.
Does not own: which calls are tried (see syscalls.py), what must hold afterwards (see oracle.py). Linux on x86-64, Python 3.9.
"""
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

AT_FDCWD = -100


@dataclass(frozen=True)
class Call:
    """A system call: its number, and which arguments are descriptors or (directory descriptor, path) pairs."""
    number: int
    descriptor: "int | None" = None
    paths: "tuple[tuple[int | None, int], ...]" = ()


# x86-64. Calls that change the disk, then those that only look at it.
CHANGING = {
    "openat": Call(257, paths=((0, 1),)), "open": Call(2, paths=((None, 0),)), "creat": Call(85, paths=((None, 0),)),
    "write": Call(1, 0), "pwrite64": Call(18, 0), "writev": Call(20, 0), "pwritev": Call(296, 0), "pwritev2": Call(328, 0),
    "copy_file_range": Call(326, 2), "sendfile": Call(40, 0),
    "fsync": Call(74, 0), "fdatasync": Call(75, 0), "sync_file_range": Call(277, 0), "syncfs": Call(306, 0),
    "mkdir": Call(83, paths=((None, 0),)), "mkdirat": Call(258, paths=((0, 1),)),
    "rename": Call(82, paths=((None, 0), (None, 1))), "renameat": Call(264, paths=((0, 1), (2, 3))),
    "renameat2": Call(316, paths=((0, 1), (2, 3))),
    "link": Call(86, paths=((None, 0), (None, 1))), "linkat": Call(265, paths=((0, 1), (2, 3))),
    "unlink": Call(87, paths=((None, 0),)), "unlinkat": Call(263, paths=((0, 1),)), "rmdir": Call(84, paths=((None, 0),)),
    "ftruncate": Call(77, 0), "truncate": Call(76, paths=((None, 0),)), "fallocate": Call(285, 0),
    "utimensat": Call(280, paths=((0, 1),)), "fchmod": Call(91, 0), "fchown": Call(93, 0),
}
LOOKING = {
    "read": Call(0, 0), "pread64": Call(17, 0), "readv": Call(19, 0), "getdents64": Call(217, 0), "flock": Call(73, 0),
    "statx": Call(332, paths=((0, 1),)), "newfstatat": Call(262, paths=((0, 1),)), "fstat": Call(5, 0), "lseek": Call(8, 0),
    "access": Call(21, paths=((None, 0),)), "faccessat": Call(269, paths=((0, 1),)), "faccessat2": Call(439, paths=((0, 1),)),
}
CALLS = {**CHANGING, **LOOKING}
NAMES = {call.number: name for name, call in CALLS.items()}

KILL, LASTING = "SIGKILL", "EIO, lasting"
FAULTS = {KILL: None, "EIO": errno.EIO, LASTING: errno.EIO, "ENOSPC": errno.ENOSPC}
"""What may happen to the n-th call; a lasting error also to every later call that changes the disk, of whatever kind."""


@dataclass
class Hit:
    """The call that the fault was injected into."""
    call: str
    path: str
    is_directory: bool


class Interposer:
    """Injects one fault into the n-th call of a kind on a path below one of `roots`.

    Use as a context around the life of one process that was started with `prefix`.
    """

    def __init__(self, kind, fault, n, roots):
        self.kind, self.fault, self.n = kind, fault, n
        self.roots = [str(Path(root).absolute()) for root in roots]
        self.seen = 0
        self.hit = None
        self.error = None
        self._filtered = sorted({kind, *(CHANGING if fault == LASTING else ())})
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Abstract: it leaves no file, and no descriptor has to be inherited.
        self._socket.bind(f"\0pintail-proof-{os.getpid()}-{id(self)}")
        self._socket.listen(1)
        self._socket.settimeout(30)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def prefix(self):
        """What to put before the program's command line."""
        address = self._socket.getsockname().lstrip(b"\0").decode()
        return (sys.executable, "-I", "-S", __file__, address, ",".join(self._filtered))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._thread.join(10)
        if self.error:
            raise RuntimeError(f"the injection into {self.kind} broke down: {self.error!r}")

    def _serve(self):
        try:
            connection, _ = self._socket.accept()
            with connection:
                message, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
            listener, self._process = descriptors[0], struct.unpack("i", message)[0]
            try:
                self._answer(listener)
            finally:
                os.close(listener)
        except Exception as error:  # noqa: BLE001 - shown by the thread that waits
            self.error = error

    def _answer(self, listener):
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            events = poll.poll()[0][1]
            if not events & select.POLLIN:
                return
            request = bytearray(NOTIFICATION.size)
            try:
                fcntl.ioctl(listener, RECEIVE, request)
            except OSError as error:
                # The caller died or was interrupted between the two.
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            identity, thread, _, number, _, _, *arguments = NOTIFICATION.unpack(request)
            code = self._decide(thread, number, arguments)
            if code is None:
                # No answer: with one, the call might still be made on the way to the grave.
                continue
            answer = ANSWER.pack(identity, 0, -code, 0) if code else ANSWER.pack(identity, 0, 0, GO_ON)
            try:
                fcntl.ioctl(listener, SEND, answer)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

    def _decide(self, thread, number, arguments):
        """Returns the error that stands in for the call; 0 lets it be made, None leaves it unanswered."""
        if self.hit and self.fault != LASTING:
            return 0
        name = NAMES[number]
        path = next((path for path in paths_of(thread, CALLS[name], arguments) if self._is_ours(path)), None)
        if path is None or (name != self.kind and not self.hit):
            return 0
        if self.hit:
            return FAULTS[self.fault]
        self.seen += 1
        if self.seen != self.n:
            return 0
        self.hit = Hit(name, path, os.path.isdir(path))
        if self.fault == KILL:
            os.kill(self._process, signal.SIGKILL)
            return None
        return FAULTS[self.fault]

    def _is_ours(self, path):
        return any(path == root or path.startswith(root + "/") for root in self.roots)


def paths_of(thread, call, arguments):
    """The paths that a stopped call is about; one that cannot be told is left out."""
    try:
        if call.descriptor is not None:
            yield os.readlink(f"/proc/{thread}/fd/{signed(arguments[call.descriptor])}")
        for directory, path in call.paths:
            text = text_at(thread, arguments[path])
            if not text.startswith("/"):
                base = AT_FDCWD if directory is None else signed(arguments[directory])
                above = os.readlink(f"/proc/{thread}/cwd" if base == AT_FDCWD else f"/proc/{thread}/fd/{base}")
                text = os.path.normpath(f"{above}/{text}") if text else above
            yield text
    except OSError:
        return


def signed(argument):
    return ctypes.c_int(argument & 0xFFFFFFFF).value


def text_at(thread, address):
    if address == 0:
        return ""
    with open(f"/proc/{thread}/mem", "rb", 0) as memory:
        memory.seek(address)
        text = memory.read(4096 - address % 4096)
        if b"\0" not in text:
            text += memory.read(4096)
    return os.fsdecode(text.split(b"\0", 1)[0])


NOTIFICATION = struct.Struct("=QIIiIQ6Q")
ANSWER = struct.Struct("=QqiI")
GO_ON = 1


def ioctl_number(direction, number, size):
    return direction << 30 | size << 16 | ord("!") << 8 | number


RECEIVE = ioctl_number(3, 0, NOTIFICATION.size)
SEND = ioctl_number(3, 1, ANSWER.size)


def install(numbers):
    """Installs the filter in this process, which keeps it through `exec`. Returns the descriptor on which the kernel asks."""
    load, equal, give = 0x20, 0x15, 0x06
    ask, allow = 0x7FC00000, 0x7FFF0000
    x86_64 = 0xC000003E
    steps = [(load, 0, 0, 4), (equal, 1, 0, x86_64), (give, 0, 0, allow), (load, 0, 0, 0)]
    steps += [(equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    steps += [(give, 0, 0, allow), (give, 0, 0, ask)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, set_filter, new_listener = 38, 317, 1, 1 << 3
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    listener = libc.syscall(seccomp, set_filter, new_listener, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER) with a listener: needs Linux 5.5 and leave to use it")
    return listener


def supported():
    """Says why faults cannot be injected here; None if they can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return f"system calls are known by their numbers on Linux x86-64, not on {platform.system()} {platform.machine()}"
    return None


def main():
    address, names, *program = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect("\0" + address)
        # Before the filter: what it asks about is answered only once the other side has the listener.
        message = struct.pack("i", os.getpid())
        listener = install([CALLS[name].number for name in names.split(",")])
        connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))])
    os.close(listener)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
