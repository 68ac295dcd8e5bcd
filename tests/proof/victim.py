"""A line that hostile input is given to, on a dataset of its own.

Owns: its settings, its bounds, its starts and ends; what must hold behind them: no panic, a sound dataset, good neighbours there once, nothing
changed by the next start.
Does not own: the input and what becomes of it (see hostile_inputs), what a sound dataset is (see oracle.py).
"""
import http.client
import json
import re
import signal
import time
from collections import Counter
from contextlib import contextmanager

import duckdb

from oracle import Broken, Dataset
from process import Unexpected
from sampled import Sampled

MIB = 1 << 20
MEMORY = 512 * MIB
DESCRIPTORS = 256
"""More than a line opens that has no connections to hold."""
SPARE = 4
"""Descriptors that may be in use for a moment: a file of the commit, a connection of the checks."""
WAIT_SECONDS = 120
"""Much more than anything here takes: others may use the machine."""
LISTENS = re.compile(r'"(admin server|HTTP source) listens","address":"([^"]+):(\d+)"')
SETTINGS = {
    "pipeline.out_path": "out", "pipeline.checkpoint_interval": "200ms", "log.format": "json", "sink.event_time": "", "sink.partition_by": [],
    # The switch is not what is tried here: of few records many are hostile.
    "dead_letters.ratio_max": 1.0,
    "transform.threads": 1, "sink.threads": 1,
}
SERVICE = {"admin.listen": "127.0.0.1:0", "admin.query": True, "admin.query_timeout": "2s", "admin.query_memory_limit": "128MB"}


class Victim:
    """One dataset and the processes that write it. `faults` gets what does not hold."""

    def __init__(self, binary, directory, settings, memory=MEMORY, descriptors=DESCRIPTORS, prefix=()):
        directory.mkdir(parents=True, exist_ok=True)
        self.binary, self.directory, self.settings, self.prefix = binary, directory, SETTINGS | settings, prefix
        self.bounds, self.peak, self.faults = (memory, descriptors), [0, 0], []
        self.dataset = Dataset(directory / "out")

    def process(self, command=()):
        return Sampled(self.binary, self.settings, self.directory, command=command, prefix=self.prefix if not command else ())

    def read(self, code=0, starts=1):
        """Reads its input to the end, in so many starts at most."""
        for _ in range(starts):
            with self.process() as process:
                ended = process.wait(WAIT_SECONDS)
                self.take_note_of(process)
            if ended in (code, 0):
                break
        if ended != code:
            self.faults.append(f"it ended with {ended}, {code} expected: {last_line(process)}")
        return process

    @contextmanager
    def serve(self, spare=SPARE):
        """Gives a service that is ready; afterwards it must stop as it should, with no more descriptors than at first and some to spare."""
        with self.process() as process:
            service = Service(process)
            base = process.descriptors()
            yield service
            if not process.is_running():
                raise Unexpected(f"it ended with {process.wait()}: {last_line(process)}")
            self.check_descriptors(process, base + spare)
            process.signal(signal.SIGTERM)
            if code := process.wait(WAIT_SECONDS):
                self.faults.append(f"stopped, it ended with {code}: {last_line(process)}")
            self.take_note_of(process)

    def check_descriptors(self, process, bound):
        """Connections that were ended are closed after a moment."""
        end = time.monotonic() + WAIT_SECONDS
        while (now := process.descriptors()) > bound and time.monotonic() < end:
            time.sleep(0.1)
        if now > bound:
            self.faults.append(f"{now} descriptors are open at the end, at most {bound} expected")

    def take_note_of(self, process):
        """Keeps the peaks of a process, and looks for a panic in its log."""
        self.peak = [max(pair) for pair in zip(self.peak, process.peak)]
        for peak, bound, what in zip(process.peak, self.bounds, ("bytes of memory", "descriptors")):
            if peak > bound:
                self.faults.append(f"{peak:,} {what}, at most {bound:,} expected")
        # A reader of Arrow that panics is refused with a warning.
        self.faults += [f"it panicked: {line[:600]}" for line in process.stderr().splitlines() if "panicked" in line and '"level":"WARN"' not in line]

    def check_at_rest(self):
        """Holds the dataset against its records, by the oracle and by the command."""
        try:
            self.dataset.check()
        except Broken as broken:
            self.faults.append(f"the oracle: {broken}")
        with self.process(("verify",)) as process:
            if code := process.wait(WAIT_SECONDS):
                self.faults.append(f"`pintail verify` ends with {code}: {process.stderr()[-500:]}")

        if self.dataset.visible_names():
            self.check_shown()

    def check_shown(self):
        """What was committed can be shown."""
        with self.process(("query", "SELECT * FROM events", "--format", "json")) as process:
            if code := process.wait(WAIT_SECONDS):
                self.faults.append(f"`pintail query` ends with {code}: {process.stderr()[-500:]}")

    def check_restart(self, code=0):
        """A further start, with the same input, works and changes nothing."""
        before = self.content()
        if "admin.query" in self.settings:
            with self.serve():
                pass
        else:
            self.read(code)
        if self.content() != before:
            self.faults.append("a further start changed the rows or the dead letters")

    def content(self):
        letters = Counter(json.dumps(letter, sort_keys=True) for letter in self.letters())
        return self.dataset.sums(), letters

    def rows(self, select="*"):
        """Returns the committed rows, as often as each is there."""
        if not self.dataset.visible_names():
            return Counter()
        try:
            # In a database of its own: a value may end one.
            with duckdb.connect() as connection:
                return Counter(connection.execute(f"SELECT {select} FROM {self.dataset.scan()}").fetchall())
        except duckdb.Error as error:
            raise Broken(f"the committed rows cannot be read: {str(error)[:500]}") from error

    def letters(self):
        """Returns the dead letters, without what differs from start to start."""
        return [{key: value for key, value in letter.items() if key != "checkpoint"} for letter in self.dataset.dead_letters()]

    def check_once(self, ids, what, times=1, column="id"):
        """Each of these ids is in the rows so many times."""
        found = Counter()
        for (id,), count in self.rows(column).items():
            found[id] += count
        if wrong := {id: found[id] for id in ids if found[id] != times}:
            self.faults.append(f"{what}: {len(wrong)} of {len(ids)} are not there {times} times; id, times: {dict(list(wrong.items())[:5])}")


class Service:
    """A running process, as its clients see it."""

    def __init__(self, process):
        self.process = process
        process.wait_log("admin server listens", WAIT_SECONDS)
        self.admin = self.address_of("admin server")
        process.wait_until(lambda: not self.not_ready(), "readiness", WAIT_SECONDS)
        if process.config["source.type"] == "http":
            process.wait_log("HTTP source listens", WAIT_SECONDS)
            self.events = self.address_of("HTTP source")

    def address_of(self, what):
        return next((host, int(port)) for found, host, port in LISTENS.findall(self.process.stderr()) if found == what)

    def not_ready(self):
        """Returns why it is not ready; nothing if it is."""
        status, body = ask(self.admin, "GET", "/readyz")
        return "" if status == 200 else body

    def readiness(self):
        """Returns all that it says of its readiness."""
        return ask(self.admin, "GET", "/readyz")[1]

    def post(self, body, headers=None):
        """Sends NDJSON. Returns the status and the answer."""
        return ask(self.events, "POST", "/v1/events", body, {"Content-Type": "application/x-ndjson"} | (headers or {}))

    def query(self, sql):
        return ask(self.admin, "POST", "/api/query", json.dumps({"sql": sql}), {"Content-Type": "application/json"})


def ask(address, method, path, body=None, headers=None):
    """Sends one request. Returns the status and the body; 0 and why if there is no answer."""
    connection = http.client.HTTPConnection(*address, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


def last_line(process):
    return process.stderr().rstrip().rpartition("\n")[2][:1000]
