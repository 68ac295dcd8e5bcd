"""The job of the small proofs: a few files of events, some of them broken, to be read once.

Owns: the input, its settings, the reference that was never disturbed, what a run's last line must say; the frame of such a proof: its options, its
directory, its threads, its verdict.
Does not own: what is done to the run.
"""
import argparse
import json
import os
import random
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oracle import Broken, Dataset, check_file
from process import Pintail, Unexpected, default_binary

WAIT_SECONDS = 60
DOCUMENTED = {0, 65, 70, 74, 75, 78}
"""Exit codes of docs/commands.md."""


class Job:
    def __init__(self, binary, work, files=4, lines=60, bad_every=20, **settings):
        self.binary, self.input = binary, work / "input"
        self.settings = {key.replace("__", "."): value for key, value in settings.items()}
        self.input.mkdir(parents=True)
        # Several files, since each is at least one read of its own: with an interval of 1 ms that makes several checkpoints.
        for file in range(files):
            text = "".join(line(n, bad_every) for n in range(file * lines, (file + 1) * lines))
            (self.input / f"{file:03}.ndjson").write_text(text)
        self.reference = Dataset(self.run_to_end(work / "reference" / "out"))
        self.reference.check()

    def pintail(self, out, pattern="*.ndjson", prefix=(), **settings):
        out.parent.mkdir(parents=True, exist_ok=True)
        config = {
            "pipeline.out_path": str(out), "pipeline.checkpoint_interval": "1ms", "pipeline.batch_rows": 30,
            "pipeline.chunk_channel": 1, "pipeline.batch_channel": 1, "pipeline.frame_channel": 1,
            "source.type": "file", "source.path": f"{self.input}/{pattern}", "transform.threads": 1, "sink.threads": 1,
            "log.format": "json",
        }
        more = {key.replace("__", "."): value for key, value in settings.items()}
        return Pintail(self.binary, config | self.settings | more, out.parent, prefix=prefix)

    def run_to_end(self, out, pattern="*.ndjson"):
        """Runs it undisturbed, to a good end. Returns the dataset's path."""
        with self.pintail(out, pattern) as pintail:
            code = pintail.wait(WAIT_SECONDS)
        if code != 0:
            raise Broken(f"undisturbed it ended with {code}:\n{pintail.stderr()[-2000:]}")
        return out

    def check_complete(self, out):
        """Checks that a dataset at rest is sound and has everything of the input once."""
        dataset = Dataset(out)
        dataset.check()
        dataset.equals(self.reference)


def line(n, bad_every):
    if n % bad_every == 7:
        return f'{{"timestamp": {n}, "broken\n'
    event = {"timestamp": 1_767_225_600_000 + n * 1000, "user_id": n, "region": ("us", "eu")[n % 2], "amount": n % 100 + 0.5, "sku": f"sku-{n}"}
    return json.dumps(event) + "\n"


def last_message(code, log):
    """Returns what the last line of a failed run says. It must say so clearly: one error, with the exit code; never a panic."""
    if "panicked" in log or code == 70:
        raise Broken(f"it panicked ({code}):\n{log[-2000:]}")
    if code not in DOCUMENTED:
        raise Broken(f"it ended with {code}, which is not documented:\n{log[-2000:]}")
    try:
        last = json.loads(log.rstrip().rpartition("\n")[2])
    except ValueError:
        raise Broken(f"it ended with {code}, and its last line is no log line:\n{log[-2000:]}") from None
    if last["level"] != "ERROR" or last.get("exit_code") != code:
        raise Broken(f"its last line does not say why it ended with {code}: {last}")
    return last["message"]


def check_visible_now(dataset):
    """Checks a dataset in the middle of its life as a reader sees it: whole files only, and none without a record."""
    records = dataset.records()
    last = {file["path"] for record in records[-1:] for file in record["files"]}
    dataset.check_visible(records, unpublished=last)
    for record in records:
        for file in record["files"]:
            if (dataset.path / file["path"]).exists():
                check_file(dataset.path, record["sequence"], file)


class Workers(ThreadPoolExecutor):
    """Threads for cases side by side. Once the proof is ended, by a signal or an error, no further case is begun."""

    ended = False

    def __exit__(self, kind, *_):
        self.ended = kind is not None
        self.shutdown(cancel_futures=self.ended)


def parser(doc):
    """Returns a parser of the options that all have; `doc` is what the proof says of itself."""
    made = argparse.ArgumentParser(description=doc.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--pintail", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    made.add_argument("--seed", type=int, metavar="S", help="repeats what is drawn in a run: moments, pauses, events (random)")
    made.add_argument("--work", type=Path, metavar="DIR", help="where a temporary directory is made (the system's)")
    return made


def parse(parser):
    """Reads the options. The binary must be one; a seed is drawn if none is given."""
    options = parser.parse_args()
    if not os.access(options.pintail, os.X_OK):
        parser.error(f"{options.pintail} must be a program")
    options.pintail = options.pintail.resolve()
    options.seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    return options


def conclude(prove, arguments, name):
    """Runs a proof, which gives what failed, in a directory of its own; prints the verdict and leaves with it."""
    # As an exception, so that what was started is ended and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.pintail = arguments.pintail.resolve()
    failed = []
    with tempfile.TemporaryDirectory(prefix=f"pintail-{name}-", dir=arguments.work, ignore_cleanup_errors=True) as work:
        try:
            failed.extend(prove(arguments, Path(work).resolve()))
        except (Broken, Unexpected) as error:
            failed.append(str(error))
    for text in failed:
        print(f"FAILED: {text}")
    again = "" if arguments.seed is None else f"; repeat with --seed {arguments.seed}"
    print(f"failed{again}" if failed else "passed")
    sys.exit(bool(failed))
