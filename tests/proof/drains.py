"""Signals: the first drains, the second leaves at once.

Owns: the signals to a process under load, on a slow disk, on a stuck disk and on an idle pipe, and how long each may take.
Does not own: the datasets (see trial.py), what a kill leaves (see witness.py).
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import oracle
from process import Unexpected
from witness import NOTHING, Witness

DRAIN_SECONDS = 8
AT_ONCE_SECONDS = 0.5
ROUNDS_PER_DATASET = 10
SLOW_DISK = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
             "-e", "inject=fsync,fdatasync:delay_exit=20000")
STUCK = {"D", "t", "Z", "X"}
"""States of a thread that does nothing any more: in the kernel, held by a tracer, ended."""
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
FULL_LOAD = {"source__rate": 0, "pipeline__checkpoint_interval": "300ms"}
SOME_LOAD = {"source__rate": 200_000, "pipeline__checkpoint_interval": "100ms", "pipeline__batch_rows": 5_000}


def timed_exit(process, number, limit, codes, what):
    """Sends a signal and waits for the end. Returns the seconds that it took."""
    begin = time.monotonic()
    process.signal(number)
    try:
        code = process.wait(limit + 5)
    except Unexpected as error:
        raise Unexpected(f"{what}: {error}") from None
    seconds = time.monotonic() - begin
    if code not in codes or seconds > limit:
        raise Unexpected(f"{what}: exit code {code} after {seconds:.2f} s, expected {codes} within {limit} s:\n{process.stderr()[-2000:]}")
    return seconds


def drain(trials, rounds):
    """The first signal, under full load and on a slow disk: all that was read is committed, and nothing is left to do."""
    seconds, trial, at_shutdown = [], None, 0
    for number in range(rounds):
        if number % ROUNDS_PER_DATASET == 0:
            if trial:
                trial.finish()
            trial = trials.new(**FULL_LOAD)
            witness, left = Witness(trial.dataset, trials.reference), 0
        with trial.pintail(prefix=SLOW_DISK) as process:
            process.wait_commits_after(trial.dataset, left)
            time.sleep(trials.moments.uniform(0, 0.4))
            sent = trials.moments.choice((signal.SIGTERM, signal.SIGINT))
            seconds.append(timed_exit(process, sent, DRAIN_SECONDS, (0,), f"drain {number + 1}"))
            said = process.messages()
        found, record = witness.look(), trial.dataset.last()
        # A tick that is due goes before the end: then there may be nothing left for a checkpoint of its own.
        at_shutdown += record["trigger"] == "shutdown"
        if found.label != NOTHING or record["trigger"] not in ("shutdown", "interval"):
            raise oracle.Broken(f"drain {number + 1} left {found.label}, its last record has the trigger {record['trigger']}")
        # The run went on behind the last drain and its own open record, and said so.
        ready = [line["next_checkpoint"] for line in said if line.get("message") == "line ready"]
        if ready != [left + 2] or said[-1]["message"] != "stopped: everything read is committed":
            raise oracle.Broken(f"drain {number + 1}: the log begins with {ready}, not {left + 2}, or ends with {said[-1]}")
        left = found.number
    trial.finish()
    if at_shutdown * 2 < rounds:
        raise oracle.Broken(f"only {at_shutdown} of {rounds} drains had something left to commit")
    return seconds


def second_on_a_slow_disk(trials, rounds):
    """The second signal while the drain is under way; a drain that is done before it is no proof."""
    seconds, drained = [], 0
    trial = trials.new(**FULL_LOAD)
    for number in range(rounds):
        sent = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with trial.pintail(prefix=SLOW_DISK) as process:
            process.wait_commits_after(trial.dataset, trial.dataset.last_number())
            process.signal(sent)
            time.sleep(0.15)
            if not process.is_running():
                drained += 1
                continue
            seconds.append(timed_exit(process, sent, AT_ONCE_SECONDS, (CODES[sent],), "second signal on a slow disk"))
    if not seconds:
        raise oracle.Broken(f"all {drained} drains were done within 150 ms: no second signal came in time")
    trial.finish()
    return seconds


def left_at_once(process, number, what, release):
    """Sends a signal to a process of which some thread cannot leave, whatever comes: stuck in the kernel, or held by a tracer, where
    not even SIGKILL ends it. All others must be gone at once, and the process as soon as that thread is released. Returns the seconds
    until only such threads were left."""
    begin = time.monotonic()
    process.signal(number)
    while (states := thread_states(process.pid))[:1] not in ([], ["Z"]) or set(states) - STUCK:
        if time.monotonic() - begin > AT_ONCE_SECONDS:
            raise Unexpected(f"{what}: after {AT_ONCE_SECONDS} s there are threads in the states {states}:\n{process.stderr()[-2000:]}")
        time.sleep(0.005)
    seconds = time.monotonic() - begin
    release()
    code = process.wait(AT_ONCE_SECONDS + 5)
    if code != CODES[number]:
        raise Unexpected(f"{what}: exit code {code}, expected {CODES[number]}:\n{process.stderr()[-2000:]}")
    return seconds


def thread_states(pid):
    """Returns the state of each thread, the first one first, as in proc_pid_stat(5)."""
    states = []
    with contextlib.suppress(FileNotFoundError):
        for thread in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                states.append(Path(f"/proc/{pid}/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()[0])
    return states


@contextlib.contextmanager
def stuck_fsync(process):
    """Holds every fsync of a running process for ten minutes, as a disk does that does not answer. Gives what ends that."""
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=600000000", "-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as tracer:
        try:
            if b"attached" not in (said := tracer.stderr.readline()):
                raise Unexpected(f"strace cannot attach: {said.decode()}")
            yield tracer.kill
        finally:
            tracer.kill()


def second_on_a_stuck_disk(trials, rounds):
    """The second signal while an fsync does not return, under load."""
    seconds = []
    for number in range(rounds):
        sent, trial = (signal.SIGTERM, signal.SIGINT)[number % 2], trials.new(**SOME_LOAD)
        with trial.pintail() as process:
            process.wait_commits_after(trial.dataset, 1 + trials.moments.randrange(4))
            with stuck_fsync(process) as release:
                wait_for_standstill(trial.dataset)
                process.signal(sent)
                time.sleep(0.2)
                if not process.is_running():
                    raise Unexpected(f"it left with {process.wait()} at the first signal, its disk stuck:\n{process.stderr()[-2000:]}")
                seconds.append(left_at_once(process, sent, "second signal on a stuck disk", release))
        trial.finish()
    return seconds


def wait_for_standstill(dataset):
    """Waits until no commit has come for several intervals."""
    last, since = dataset.last_number(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.02)
        if (number := dataset.last_number()) != last:
            last, since = number, time.monotonic()


STDIN = {"source.type": "stdin", "pipeline.checkpoint_interval": "1h"}


def signals_on_an_idle_pipe(trials, rounds):
    """One signal, or two at once, to a process that waits for standard input: it leaves either way."""
    seconds = []
    for number in range(rounds):
        trial = trials.new()
        with stdin_line(trial) as process:
            twice, sent = number % 2, (signal.SIGTERM, signal.SIGINT)[number // 2 % 2]
            if twice:
                process.signal(sent)
            codes = (0, CODES[sent]) if twice else (0,)
            seconds.append(timed_exit(process, sent, AT_ONCE_SECONDS, codes, f"{1 + twice} signals on an idle pipe"))
        trial.remove()
    return seconds


def second_on_an_idle_pipe_and_a_stuck_disk(trials, rounds):
    """The second signal while the pipe is idle and what came through it cannot be committed."""
    seconds = []
    for number in range(rounds):
        sent, trial = (signal.SIGTERM, signal.SIGINT)[number % 2], trials.new()
        with stdin_line(trial) as process:
            with stuck_fsync(process) as release:
                event = {"timestamp": 0, "user_id": 1, "region": "us", "amount": 1.0, "sku": "SKU-00001"}
                os.write(process.child.stdin.fileno(), (json.dumps(event) + "\n").encode())
                # From the pipe to the batcher is a step that leaves no trace outside.
                time.sleep(0.5)
                process.signal(sent)
                time.sleep(0.3)
                if not process.is_running():
                    raise Unexpected(f"it left with {process.wait()} at the first signal, its disk stuck:\n{process.stderr()[-2000:]}")
                seconds.append(left_at_once(process, sent, "second signal, idle pipe, stuck disk", release))
        if trial.dataset.last_checkpoint():
            raise oracle.Broken("a checkpoint was committed though no fsync returned")
        trial.remove()
    return seconds


@contextlib.contextmanager
def stdin_line(trial):
    # None of the simulator's settings: they would be refused.
    trial.settings = {"pipeline.out_path": "out"} | STDIN
    with trial.pintail(stdin=subprocess.PIPE) as process:
        process.wait_log("line ready")
        yield process
        process.child.stdin.close()


def second_on_a_frozen_file_system(trials, rounds):
    """The second signal while threads are stuck inside the kernel. None if file systems cannot be mounted here."""
    image, mount, seconds = trials.work / "frozen.img", trials.work / "frozen", []
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "fsfreeze", "mount"))):
        return None
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, mount], stderr=subprocess.DEVNULL).returncode != 0:
        return None
    try:
        for number in range(rounds):
            sent, trial = (signal.SIGTERM, signal.SIGINT)[number % 2], trials.new(mount / f"frozen-{number}", **SOME_LOAD)
            with trial.pintail() as process:
                process.wait_commits_after(trial.dataset, 2)
                with frozen(mount) as release:
                    process.wait_until(lambda: "D" in thread_states(process.pid), "a thread that is stuck in the kernel")
                    process.signal(sent)
                    time.sleep(0.2)
                    seconds.append(left_at_once(process, sent, "second signal on a frozen file system", release))
            trial.finish()
    finally:
        subprocess.run(["umount", mount], check=True)
    return seconds


@contextlib.contextmanager
def frozen(mount):
    """Lets every write to a file system wait inside the kernel. Gives what ends that."""
    def thaw():
        if held.pop("frozen", None):
            subprocess.run(["fsfreeze", "--unfreeze", mount], check=True)

    held = {"frozen": True}
    subprocess.run(["fsfreeze", "--freeze", mount], check=True)
    try:
        yield thaw
    finally:
        thaw()
