"""A real nats-server, and a publisher of numbered events that outlives its deaths.

Owns: the process (a free port, a directory, ended by its id), as much of NATS' protocol as publishing and asking JetStream takes, and that
event n is the message with sequence n + 1 of the stream, however often the server is killed.
Does not own: what the events are (see nats_kills.py), what Pintail makes of them.
"""
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from process import Unexpected

PATIENCE = 30
# The server's code for a message that does not come after the one that it names.
WRONG_LAST_SEQUENCE = 10071
running = set()


def program():
    """Returns the server's path: the one that was installed with this interpreter's packages, or the system's. Debian's package puts it where users
    that are not root do not look."""
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which("nats-server", path=os.pathsep.join(places))


class Server:
    """Runs, or is down for a while; what JetStream stores stays."""

    def __init__(self, directory):
        self.directory, self.child = Path(directory), None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        with open(self.directory / "nats-server.log", "ab") as log:
            self.child = subprocess.Popen([program(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory / "js")],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        running.add(self)

    def kill(self):
        self.end(signal.SIGKILL)

    def stop(self):
        """Ends it as an operator does."""
        self.end(signal.SIGTERM)

    def end(self, number):
        running.discard(self)
        if self.child:
            self.child.send_signal(number)
            self.child.wait()
            self.child = None


class Away(Exception):
    """The server is not there, or went away in the middle of it."""


def publication(subject, payload, header=b"", reply=""):
    """Returns what a client sends to publish."""
    if not header:
        return b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(payload), payload)
    header = b"NATS/1.0\r\n%s\r\n\r\n" % header
    return b"HPUB %s %s %d %d\r\n%s%s\r\n" % (subject.encode(), reply.encode(), len(header), len(header) + len(payload), header, payload)


class Client:
    """One connection. Every request is answered, or ends in `Away`."""

    def __init__(self, port):
        self.number, self.file = 0, None
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=2)
            self.file = self.socket.makefile("rb")
            self.file.readline()
            self.socket.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _I.* 1\r\n')
        except OSError as error:
            raise Away from error

    def ask(self, *messages):
        """Publishes; returns the answer to the last."""
        self.number += 1
        silent = b"".join(publication(*message) for message in messages[:-1])
        try:
            self.socket.sendall(silent + publication(*messages[-1], reply=f"_I.{self.number}"))
            while True:
                head, body = self.message()
                if head[1] == b"_I.%d" % self.number:
                    if not body.startswith(b"{"):
                        raise Away(f"no answer but {body!r}")
                    return json.loads(body)
        except (OSError, IndexError, ValueError) as error:
            raise Away from error

    def message(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise Away
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith((b"MSG ", b"HMSG ")):
                head = line.split()
                return head, self.file.read(int(head[-1]) + 2)[:-2]
            elif line.startswith(b"-ERR"):
                raise Away(line.decode())

    def api(self, call, /, **payload):
        """Asks JetStream."""
        answer = self.ask((f"$JS.API.{call}", json.dumps(payload).encode()))
        if answer.get("error", {}).get("code", 0) in (408, 500, 503):
            raise Away(answer["error"])
        return answer

    def close(self):
        for end in (self.file, self.socket):
            with contextlib.suppress(OSError, AttributeError):
                end.close()


def ask(server, api, /, **payload):
    """Asks JetStream until it answers."""
    end = time.monotonic() + PATIENCE
    while True:
        client = None
        try:
            client = Client(server.port)
            return client.api(api, **payload)
        except Away as away:
            if time.monotonic() > end:
                raise Unexpected(f"JetStream does not answer to {api}: {away.__cause__ or away}") from away
            time.sleep(0.02)
        finally:
            if client:
                client.close()


class Publisher(threading.Thread):
    """Publishes events one after the other until it is told to stop. `event(n)` returns subject and payload."""

    def __init__(self, server, stream, event, rate):
        super().__init__(daemon=True)
        self.server, self.stream, self.event, self.rate = server, stream, event, rate
        self.stopping, self.error = threading.Event(), None
        self.confirmed = self.outages = 0

    def run(self):
        try:
            while not self.stopping.is_set():
                try:
                    self.publish()
                except Away:
                    self.outages += 1
                    time.sleep(0.02)
        except Exception as error:  # noqa: BLE001  it is shown by `finish`
            self.error = error

    def publish(self, together=200):
        """Goes on behind what the stream has. What a connection before this one has sent may still come in; so each message says which one it
        comes after, and the server takes it there or not at all."""
        client = Client(self.server.port)
        try:
            has = client.api(f"STREAM.INFO.{self.stream}")["state"]["last_seq"]
            if not self.confirmed <= has:
                raise Unexpected(f"the server has {has} messages, it had confirmed {self.confirmed}")
            while not self.stopping.is_set():
                begin = time.monotonic()
                events = [(*self.event(n), b"Nats-Expected-Last-Sequence: %d" % n) for n in range(has, has + together)]
                has += together
                answer = client.ask(*events)
                if answer.get("error", {}).get("err_code") == WRONG_LAST_SEQUENCE:
                    raise Away
                if answer.get("seq") != has:
                    raise Unexpected(f"event {has - 1} was published, the server says {answer}")
                self.confirmed = has
                time.sleep(max(0, together / self.rate - (time.monotonic() - begin)))
        finally:
            client.close()

    def finish(self):
        """Ends it. Returns the number of events in the stream."""
        self.stopping.set()
        self.join()
        if self.error:
            raise self.error
        return ask(self.server, f"STREAM.INFO.{self.stream}")["state"]["last_seq"]


@atexit.register
def end_all():
    for server in list(running):
        server.kill()
