"""Hostile requests to the HTTP source and to the admin server, a good one after each.

Owns: sending them, and the comparison of answers and content: what was answered with 200 is there once, what was not is not there.
Does not own: requests, bodies and the answers that are right (see hostile_inputs/requests.py, bodies.py), the process (see victim.py).
"""
import json
import re
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from time import sleep

from hostile_inputs.bodies import arrow_rows
from hostile_inputs.requests import CLOSED, HALF_CLOSE, LINGER, RESET, lines
from victim import MIB, WAIT_SECONDS, Victim, last_line

MEMORY = 768 * MIB
"""Bodies may take 256 MiB of it (`source.bodies_bytes_max`), and are decompressed and decoded beside that."""
DESCRIPTORS = 1_400
SETTINGS = {
    "source.type": "http", "source.listen": "127.0.0.1:0", "source.body_timeout": "1s", "source.idle_timeout": "1s", "admin.listen": "127.0.0.1:0",
    "admin.query": True,
    "schema.columns": [{"name": "id", "type": "int64", "required": True}, {"name": "kind", "type": "text"}],
    "transform.sql": "SELECT id, kind FROM events", "monitor.group_by": "kind", "monitor.value": "id",
}
STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d)")
ACCEPTED = re.compile(rb'\{"accepted":(\d+),"offset":(\d+)\}')
REFUSALS = {400, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 422, 426, 431, 501, 503, 505, 507, CLOSED}


def run(options, directory, inputs):
    """Gives these inputs to one process. Returns the victim, with what does not hold."""
    settings = SETTINGS | dict(inputs[0].content.settings)
    victim, good, exchanges = Victim(options.pintail, directory, settings, memory=MEMORY, descriptors=DESCRIPTORS), [], []
    ids = count(1)
    with victim.serve() as service:
        for input in inputs:
            answers = served(service, input.content)
            exchanges.append((input, answers))
            if not service.process.is_running():
                victim.faults.append(f"{input.kind}: {told(input)} ended the process: {last_line(service.process)}")
                break
            good.append(next(ids))
            post_good(victim, service, input, good[-1])
        if reason := service.not_ready():
            victim.faults.append(f"behind {input.kind} it is not ready: {reason}")
    check(victim, good, exchanges)
    victim.check_at_rest()
    victim.check_restart()
    return victim


def post_good(victim, service, input, id):
    """The good neighbour is served, whatever the hostile one does."""
    status, answer = service.post(lines([id]))
    if status != 200:
        victim.faults.append(f"{input.kind}: behind {told(input)} a good request is answered with {status}: {answer[:300]}")


def served(service, request):
    """Does what a request asks for on all its connections. Returns what came on each; a silent crowd stays until a probe has passed between."""
    clients = [Client(service.admin if request.admin else service.events) for _ in range(request.connections)]
    if request.silent:
        for client in clients:
            client.send(request.steps)
        service.not_ready()
        return [client.close() for client in clients]
    with ThreadPoolExecutor(len(clients)) as threads:
        return list(threads.map(lambda client: client.exchange(request.steps), clients))


class Client:
    """One connection."""

    def __init__(self, address):
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_SECONDS)
        with suppress(OSError):
            self.socket.connect(address)

    def exchange(self, steps):
        self.send(steps)
        return self.receive()

    def send(self, steps):
        with suppress(OSError):
            for step in steps:
                if step == HALF_CLOSE:
                    self.socket.shutdown(socket.SHUT_WR)
                elif step == RESET:
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                    self.socket.close()
                elif isinstance(step, float):
                    sleep(step)
                else:
                    self.socket.sendall(step() if callable(step) else step)

    def receive(self):
        """Returns all that comes until the connection ends."""
        received = []
        with suppress(OSError):
            while data := self.socket.recv(1 << 16):
                received.append(data)
        self.socket.close()
        return b"".join(received)

    def close(self):
        """Returns what has come by now."""
        with suppress(OSError):
            self.socket.setblocking(False)
        return self.receive()


def check(victim, good, exchanges):
    rows, letters = victim.rows("id, kind"), {letter["offset"] for letter in victim.letters()}
    found, known, seen, unread = Counter(), set(good), set(), 0
    for (id, _), times in rows.items():
        found[id] += times
    for input, answers in exchanges:
        accepted = [tuple(map(int, pair)) for pair in ACCEPTED.findall(b"".join(answers))]
        statuses = {int(status) for answer in answers for status in STATUS.findall(answer) or [CLOSED]} - {100}
        for wrong in judged(input, statuses, set(accepted) - seen, found, rows, letters):
            victim.faults.append(f"{input.kind}: {told(input)} {wrong}; answered with {sorted(statuses)}: {answers[0][-300:]}")
        if accepted and is_arrow(input.content) and arrow_of(input) is None:
            unread += sum(records for records, _ in set(accepted) - seen)
        seen |= set(accepted)
        known |= {*input.content.ids, *(id for id, _ in accepted and arrow_of(input) or [])}
    if wrong := [id for id in good if found[id] != 1]:
        victim.faults.append(f"{len(wrong)} of {len(good)} good records are not there once; of the first there are {found[wrong[0]]}")
    # What pyarrow is too strict to read may be any rows, but no more than were accepted.
    if len(strange := found.keys() - known) > unread:
        victim.faults.append(f"{len(strange)} rows are there that were not accepted, such as {sorted(strange)[:5]}")
    places = {place for records, offset in seen for place in range(offset, offset + records)}
    if letters - places and not any(b"" in answers for _, answers in exchanges):
        victim.faults.append(f"{len(letters - places)} dead letters are there of what was not accepted")


def judged(input, statuses, accepted, found, rows, letters):
    """Gives what is wrong with an input, by its answers and the content."""
    request, arrow = input.content, accepted and arrow_of(input)
    if strange := statuses - (REFUSALS | {200} if input.expected is None else set(input.expected)):
        yield f"was answered with {sorted(strange)}, which it should not"
    # Without an answer it is not known, and a length that is lost makes a body empty.
    taken = 200 in statuses and (input.expected or any(records and offset not in letters for records, offset in accepted))
    right = {1} if taken else {0, 1} if CLOSED in statuses else {0}
    if not is_arrow(request) and (times := {found[id] for id in request.ids} - right):
        yield f"has records that are there {sorted(times)} times"
    for records, offset in accepted:
        lost = sum(place in letters for place in range(offset, offset + records))
        if arrow and any(id is not None and not rows[id, kind] for id, kind in arrow):
            yield f"has rows that are not there as pyarrow reads them: {[row for row in arrow if not rows[row]][:3]}"
        elif not arrow and request.letters is not None and input.expected and lost != request.letters:
            yield f"has {lost} dead letters, not {request.letters}"


def arrow_of(input):
    return arrow_rows(input.content.steps[0].partition(b"\r\n\r\n")[2]) if is_arrow(input.content) else None


def is_arrow(request):
    return isinstance(request.steps[0], bytes) and b"vnd.apache.arrow" in request.steps[0]


def told(input):
    first = input.content.steps[0]
    return repr(first if len(first) <= 300 else first[:200] + b" ... " + first[-80:]) if isinstance(first, bytes) else str(first)
