#!/usr/bin/env python3
"""Lays other hands on a dataset while it is written and while it rests: is the answer 75, 65 or 78, or else a right dataset?

    python3 tests/proof/hands.py                    each hand a few times: half a minute
    nice python3 tests/proof/hands.py --rounds 100 --rate 0
                                                    the long form: 100 rounds of two processes without a lock that works, 20 of each other hand,
                                                    at full rate

After each round a clean run goes on to the end, and the dataset has each event once: the oracle, an undisturbed run and `pintail verify` agree. Where
something was destroyed, it is said before (65 or 78, by the start and by `verify`), nothing is touched, and the round puts it back first. No file
ever lies under a record that says another.

Owns: the hands, and which answer each must get.
Does not own: what a sound dataset is (oracle.py), its end and the comparison (trial.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import job
from job import Workers, conclude, last_message
from oracle import Broken, staged_as, unsealed
from process import Unexpected
from trial import Trials

AGAIN, STATE, CONFIG = 75, 65, 78
END_SECONDS = 60


class Hand:
    """One round: a dataset, and what is done to it."""

    def __init__(self, trials, rate, moments):
        self.moments = moments
        interval = f"{self.moments.randint(20, 100)}ms"
        self.trial = trials.new(pipeline__checkpoint_interval=interval, pipeline__batch_rows=5_000, source__rate=rate, log__format="json")
        self.dataset, self.out, self.private = self.trial.dataset, self.trial.dataset.path, self.trial.dataset.private
        self.answers, self.moved = [], 0

    # What a round is made of.

    @contextlib.contextmanager
    def running(self, **settings):
        """A process that has committed, at a moment somewhere in its work."""
        with self.trial.pintail({key.replace("__", "."): value for key, value in settings.items()}) as process:
            process.wait_commits_after(self.dataset, self.dataset.last_number())
            self.pause(150)
            yield process

    def commit_some(self, least=2):
        """Lets a process make some checkpoints and end in peace."""
        with self.running() as process:
            for _ in range(least):
                process.wait_commits_after(self.dataset, self.dataset.last_number())
            self.stop(process)

    def stop(self, process):
        process.signal(signal.SIGTERM)
        if (code := process.wait(END_SECONDS)) != 0:
            raise Unexpected(f"at SIGTERM it ended with {code}:\n{process.stderr()[-2000:]}")

    def pause(self, most_ms):
        time.sleep(self.moments.uniform(0, most_ms) / 1000)

    def ends(self, process, *codes, says=""):
        """Waits for a process that must end by itself, with one of some codes, and say why."""
        code = process.wait(END_SECONDS)
        self.answers.append(code)
        if code not in codes:
            raise Broken(f"it ended with {code}, expected {codes}:\n{process.stderr()[-2000:]}")
        message = last_message(code, process.stderr()) if code > 0 else ""
        if says not in message:
            raise Broken(f"its last line does not say {says!r}: {message}")

    def refused(self, code, says=""):
        """As `refused_by_start`; `pintail verify` finds it, too."""
        self.refused_by_start(code, says)
        self.verify(code)

    def refused_by_start(self, code, says):
        """Starts a process, which must end by itself and touch nothing."""
        before = self.tree()
        with self.trial.pintail() as process:
            self.ends(process, code, says=says)
        if changed := dict(before.items() ^ self.tree().items()):
            raise Broken(f"a start that was refused changed {sorted(changed)[:5]}")

    def verify(self, code):
        with self.trial.pintail(command=["verify"]) as process:
            if (found := process.wait(END_SECONDS)) != code:
                raise Broken(f"`pintail verify` ended with {found}, expected {code}:\n{process.stderr()[-2000:]}")

    def tree(self):
        """Returns every file but the lock with its inode, length and time of change."""
        paths = (path for path in self.out.rglob("*") if path.name != "LOCK")
        return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path in paths if path.is_file() for stat in [path.stat()]}

    def aside(self, path):
        """Moves something away, and gives what puts it back."""
        kept = self.beside("aside", path)
        path.rename(kept)

        def back():
            remove(path)
            kept.rename(path)
        return back

    def beside(self, how, path):
        self.moved += 1
        return self.trial.directory / f"{how}-{self.moved}-{path.name}"

    def copy(self, path):
        """Copies something beside the dataset, with its times, and returns the copy."""
        to = self.beside("copy", path)
        shutil.copytree(path, to) if path.is_dir() else shutil.copy2(path, to)
        return to

    def finish(self):
        """Goes on undisturbed, and compares all."""
        self.check_files()
        self.verify(0)
        self.trial.finish()

    def lost_is_said(self, lost):
        """What a record names and nobody has any more: `verify` says so, the start names it, and the command that it names is a way out."""
        self.verify(STATE)
        with self.trial.pintail({"source.limit": self.dataset.next_offset()}) as process:
            self.ends(process, 0, STATE)
            log = process.stderr()
        if unnamed := [path for path in lost if path not in log]:
            raise Broken(f"the start does not name {unnamed}:\n{log[-2000:]}")
        before, force = re.search(r"pintail expire --before ([^\s`]+)( --force)?", log).groups()
        with self.trial.pintail(command=["expire", "--before", before, *(["--force"] if force else [])]) as process:
            if (code := process.wait(END_SECONDS)) != 0:
                raise Broken(f"`pintail expire --before {before}` ended with {code}:\n{process.stderr()[-2000:]}")
        self.verify(0)
        self.commit_some(1)
        self.verify(0)

    def lost(self):
        """Returns the files of the last record of which the content is neither in its place nor staged."""
        record = self.dataset.last()
        number, epoch = staged_as(record)

        def is_at(path, file):
            return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]

        staging = self.private / "staging" / f"{number:010}-{epoch}"
        return [file["path"] for file in record["files"]
                if not is_at(self.out / file["path"], file) and not is_at(staging / f"{file['staged']}.inprogress", file)]

    def check_files(self):
        """Checks that each visible file is the one of its record: in length at once, in content at the end."""
        for number in self.dataset.record_numbers():
            for file in unsealed(self.dataset.record_path(number))[0]["files"]:
                path = self.out / file["path"]
                if path.exists() and path.stat().st_size != file["bytes"]:
                    raise Broken(f"{file['path']} has {path.stat().st_size} bytes, record {number} says {file['bytes']}")


# Two processes.

def two_processes(hand):
    """The lock is removed under a process, and another started; half of the time the first one is held still meanwhile, wherever it is."""
    with hand.running() as first:
        held = hand.moments.random() < 0.5
        if held:
            first.signal(signal.SIGSTOP)
        (hand.private / "LOCK").unlink()
        hand.pause(30)
        with hand.running() as second:
            if held and hand.moments.random() < 0.5:
                first.signal(signal.SIGCONT)
                hand.ends(first, AGAIN)
            if hand.moments.random() < 0.5:
                hand.stop(second)
            else:
                second.signal(signal.SIGKILL)
                second.wait()
        if first.child.returncode is None:
            first.signal(signal.SIGCONT)
            hand.ends(first, AGAIN)


def crowd(hand):
    """Three start at once while the lock is removed all the time."""
    lock, end = hand.private / "LOCK", time.monotonic() + 1.5
    with contextlib.ExitStack() as stack:
        processes = []
        while time.monotonic() < end:
            if len(processes) < 3:
                processes.append(stack.enter_context(hand.trial.pintail()))
            lock.unlink(missing_ok=True)
            hand.pause(20)
        for process in processes:
            if process.is_running():
                process.signal(signal.SIGTERM)
            hand.ends(process, 0, AGAIN)


# The ledger.

def ledger_removed_while_running(hand):
    hand.commit_some()
    kept = hand.copy(hand.private)
    with hand.running() as process:
        part = hand.moments.choice((hand.private, hand.private / "commits"))
        # What it commits after the copy was taken is lost with the ledger.
        remove(part)
        hand.ends(process, AGAIN, STATE)
    beyond = newest(hand) > last_number_in(kept)
    remove(hand.private)
    hand.refused(CONFIG, "pintail adopt")
    shutil.copytree(kept, hand.private)
    if beyond:
        hand.refused(STATE, "the ledger is older than the files")
        remove_newer(hand)


def ledger_removed(hand):
    hand.commit_some()
    back = hand.aside(hand.private)
    hand.refused(CONFIG, "pintail adopt")
    if hand.private.exists():
        raise Broken("a start that was refused made a ledger")
    back()
    back = hand.aside(hand.private / "commits")
    hand.refused(STATE, "the ledger is older than the files")
    back()
    back = hand.aside(hand.private / "FORMAT")
    with hand.trial.pintail() as process:
        hand.ends(process, STATE, says="FORMAT` is missing")
    back()


def older_ledger(hand):
    hand.commit_some()
    older = hand.copy(hand.private)
    hand.commit_some()
    back = hand.aside(hand.private)
    shutil.copytree(older, hand.private)
    hand.refused(STATE, "the ledger is older than the files")
    back()


def older_ledger_while_running(hand):
    hand.commit_some()
    older = hand.copy(hand.private)
    with hand.running() as process:
        back = hand.aside(hand.private)
        shutil.copytree(older, hand.private)
        hand.ends(process, AGAIN, STATE)
    hand.check_files()
    if newest(hand) > hand.dataset.last_number():
        hand.refused(STATE, "the ledger is older than the files")
    back()


def older_dataset(hand):
    """All of it is put back: the simulator's events are read again from there, each once."""
    hand.commit_some()
    older = hand.copy(hand.out)
    hand.commit_some()
    remove(hand.out)
    older.rename(hand.out)
    hand.verify(0)


def older_dataset_while_running(hand):
    hand.commit_some()
    older = hand.copy(hand.out)
    with hand.running() as process:
        hand.out.rename(hand.trial.directory / "newer")
        older.rename(hand.out)
        hand.ends(process, AGAIN, STATE)
    hand.check_files()


# Parts of it.

def files_removed(hand):
    """Files of earlier checkpoints and of the last one: `verify` names them until their removal is declared; a start says so and goes on."""
    hand.commit_some()
    files = hand.dataset.visible_files()
    chosen = hand.moments.sample(files, min(3, len(files)))
    back = [hand.aside(path) for path in chosen]
    for path in chosen:
        with hand.trial.pintail(command=["verify"]) as process:
            if (code := process.wait()) != STATE:
                raise Broken(f"`pintail verify` ended with {code} without {path}")
    with hand.trial.pintail({"source.limit": hand.dataset.next_offset()}) as process:
        hand.ends(process, 0)
    for put in back:
        put()


def key_removed(hand):
    hand.commit_some()
    key = hand.private / "KEY"
    back = hand.aside(key)
    hand.refused_by_start(STATE, "KEY` is missing")
    if hand.moments.random() < 0.5:
        key.write_text("0f" * 32 + "\n")
        hand.refused_by_start(STATE, "KEY` is not the key")
    back()


def snapshot_torn(hand):
    """A snapshot is cut, changed, or gone: it is made again by nobody unasked."""
    with hand.running(pipeline__checkpoint_interval="20ms") as process:
        process.wait_until(lambda: list((hand.private / "snapshots").glob("*.json")), "a snapshot")
        hand.stop(process)
    snapshot = hand.private / "snapshots" / f"{hand.dataset.last()['snapshot']['sequence']:010}.json"
    content = snapshot.read_bytes()
    at = hand.moments.randrange(len(content))
    for torn in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1:], b"", None):
        snapshot.unlink()
        if torn is not None:
            snapshot.write_bytes(torn)
        hand.refused_by_start(STATE, "the snapshot `")
    snapshot.write_bytes(content)


def staging_removed(hand):
    """What is staged goes while it is written: nothing of it is committed, and it is read again. If it goes between the record and the publication,
    what the record names is lost: then that is said, with a way to do without it."""
    with hand.running() as process:
        end = time.monotonic() + 2
        while process.is_running() and time.monotonic() < end:
            remove(hand.private / "staging")
            hand.pause(30)
        if process.is_running():
            process.signal(signal.SIGTERM)
        hand.ends(process, 0, AGAIN, STATE)
    if lost := hand.lost():
        hand.lost_is_said(lost)
        return "lost"
    return None


def staged_file_replaced(hand):
    """Another file is put in the place of a staged one. It is never published. If that happens between the record and the publication, what the
    record names is lost: then that is said, with a way to do without it."""
    with hand.running() as process:
        end = time.monotonic() + 2
        while process.is_running() and time.monotonic() < end:
            for path in (hand.private / "staging").glob("*/*.inprogress"):
                with contextlib.suppress(FileNotFoundError):
                    # As long as it is at this moment, so that the length alone tells nothing once it is complete.
                    other = hand.private / "staging" / "other"
                    other.write_bytes(b"x" * path.stat().st_size)
                    os.replace(other, path)
            hand.pause(10)
        if process.is_running():
            process.signal(signal.SIGTERM)
        hand.ends(process, 0, AGAIN, STATE)
    hand.check_files()
    if lost := hand.lost():
        hand.refused(STATE, "cannot publish")
        hand.lost_is_said(lost)
        return "lost"
    return None


def remove(path):
    """Removes a file or a tree that somebody may still write to."""
    for _ in range(100):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not path.exists():
            return


def last_number_in(private):
    return max(int(path.stem) for path in (private / "commits").glob("*/*.json"))


def numbered(hand):
    """Returns the visible files with the numbers of their checkpoints."""
    return [(int(path.stem.split("-")[5]), path) for path in hand.dataset.visible_files()]


def newest(hand):
    return max((number for number, _ in numbered(hand)), default=0)


def remove_newer(hand):
    """Moves the files away that the ledger does not know, as the refusal says."""
    last = hand.dataset.last_number()
    for number, path in numbered(hand):
        if number > last:
            path.unlink()


HANDS = {
    "processes": ("lock removed, another process started", two_processes),
    "crowd": ("lock removed all the time, three started", crowd),
    "ledger-gone": ("`_pintail`, `commits` or FORMAT gone", ledger_removed),
    "ledger-gone-running": ("`_pintail` or `commits` removed under a process", ledger_removed_while_running),
    "ledger-older": ("an older `_pintail` beside newer files", older_ledger),
    "ledger-older-running": ("the same under a process", older_ledger_while_running),
    "dataset-older": ("an older copy of all", older_dataset),
    "dataset-older-running": ("the same under a process", older_dataset_while_running),
    "files": ("data files removed", files_removed),
    "key": ("KEY removed or replaced", key_removed),
    "snapshot": ("snapshot cut, changed or removed", snapshot_torn),
    "staging": ("staging removed under a process", staging_removed),
    "staged": ("staged files replaced", staged_file_replaced),
}


def one_round(trials, options, name, number):
    """Returns the answers, and what broke; `None` if nothing did."""
    # Of its own, so that a round is repeated by the seed whatever runs beside it.
    hand = Hand(trials, options.rate, random.Random(f"{options.seed} {name} {number}"))
    try:
        if HANDS[name][1](hand) != "lost":
            hand.finish()
        return hand.answers, None
    except (Broken, Unexpected, OSError) as error:
        print(f"{name}, round {number}: {str(error).partition(chr(10))[0]}", flush=True)
        if options.keep:
            shutil.copytree(hand.trial.directory, options.keep / f"{name}-{number}", dirs_exist_ok=True)
        return hand.answers, f"{HANDS[name][0]}, round {number}: {error}"
    finally:
        shutil.rmtree(hand.trial.directory, ignore_errors=True)


def prove(options, work):
    trials, failed, began = Trials(options.pintail, work, options.seed), [], time.monotonic()
    print(f"seed {options.seed}\n\n{'hand':52} {'rounds':>6}  answers", flush=True)
    with Workers(max_workers=options.beside) as workers:
        rounds = {name: range(1, 1 + (options.rounds if name == "processes" else max(1, options.rounds // 5))) for name in options.only}
        begun = {name: [workers.submit(one_round, trials, options, name, number) for number in numbers] for name, numbers in rounds.items()}
        for name, done in begun.items():
            answers, broken = Counter(), [why for round_ in done if (why := round_.result()[1])]
            for round_ in done:
                answers.update(round_.result()[0])
            told = ", ".join(f"{code}: {count}" for code, count in sorted(answers.items()))
            print(f"{HANDS[name][0]:52} {len(done):6}  {told}{'  FAILED' if broken else ''}", flush=True)
            failed += broken
    print(f"\n{time.monotonic() - began:.0f} s")
    return failed


def arguments():
    parser = job.parser(__doc__)
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", default=5, help="rounds of two processes; a fifth of it of each other hand (%(default)s)")
    add("--rate", type=int, metavar="N", default=200_000, help="events a second; 0 = as fast as it can (%(default)s)")
    add("--beside", type=int, metavar="N", default=3, help="rounds at the same time (%(default)s)")
    add("--only", nargs="+", metavar="HAND", choices=HANDS, default=list(HANDS), help=f"hands to lay on: {', '.join(HANDS)}")
    add("--keep", type=Path, metavar="DIR", help="keeps datasets that broke there")
    options = job.parse(parser)
    if options.rounds < 1:
        parser.error("it takes at least one round")
    return options


if __name__ == "__main__":
    conclude(prove, arguments(), "hands")
