#!/usr/bin/env python3
"""Reads from a Kafka-compatible broker of somebody else (nisshi), which keeps its log on disk and is killed as well.

    cargo install nisshi --version 0.8.1 --locked --no-default-features --features dynostore,libsql       (Rust 1.96 or newer)
    pip install confluent-kafka                             in the interpreter that has duckdb and pyarrow
    python3 tests/proof/kafka_broker.py                     half a minute; `--kills 30` for the long form

  kills         SIGKILL to Pintail while messages come in, in every fifth round to the broker as well
  partitions    a topic gets two more partitions while it is read
  instances     three share a topic, one is killed; then two take over
  again         a topic that is deleted and made again while it is read is refused
  login         TLS and SCRAM; a wrong password is refused, and not shown

What the topic holds is read by a consumer of confluent-kafka after each; partition, offset and payload of each row must be the same.

Owns: the broker, its topics, the five cases.
Does not own: what a sound dataset is (oracle.py).
"""
import interpreter  # noqa: F401  first: it may start this command again under another Python

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import pyarrow
from pyarrow import parquet

import oracle
from process import Pintail, Unexpected, default_binary

try:
    import confluent_kafka as kafka
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError:
    sys.exit(f"{sys.executable} lacks confluent-kafka: install it there with pip")

TLS = Path(__file__).resolve().parent.parent / "it/http"
PATIENCE = 60
USER, PASSWORD = "lake", "a-password-for-this-proof"
CONFIG = """
[pipeline]
out_path = "out"
checkpoint_interval = "100ms"

[source]
type = "kafka"
partitions_interval = "200ms"

[transform]
sql = "SELECT id, _partition AS p, _offset AS o, _timestamp AS ts FROM events"

[sink]
partition_by = ["p"]
event_time = "ts"

[monitor]
group_by = "p"
value = "id"

[[schema.columns]]
name = "id"
type = "int64"
required = true
"""


class Broker:
    """Runs, or is down for a while; what it has confirmed stays."""

    def __init__(self, program, directory):
        self.program, self.directory, self.options, self.child = program, directory, (), None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"tcp://{self.address}"

    def start(self):
        with open(self.directory / "broker.log", "ab") as log:
            self.child = subprocess.Popen([self.program, "broker", "--listener-url", self.url, "--advertised-listener-url", self.url,
                                           "--storage-engine", "sqlite://broker.db", *self.options],
                                          cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), timeout=1):
                return self
            time.sleep(0.05)
        raise Unexpected(f"the broker does not start: {(self.directory / 'broker.log').read_text()[-1000:]}")

    def kill(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def create(self, topic, partitions):
        client = AdminClient({"bootstrap.servers": self.address})
        client.create_topics([NewTopic(topic, partitions, 1)])[topic].result(PATIENCE)

    def delete(self, topic):
        client = AdminClient({"bootstrap.servers": self.address})
        client.delete_topics([topic])[topic].result(PATIENCE)

    def grow(self, topic, partitions):
        """Adds partitions. This broker has no request for it: they are added where it keeps its topics."""
        with sqlite3.connect(self.directory / "broker.db", timeout=PATIENCE) as store:
            number, = store.execute("SELECT id FROM topic WHERE name = ?", (topic,)).fetchone()
            before, = store.execute("SELECT partitions FROM topic WHERE id = ?", (number,)).fetchone()
            store.execute("UPDATE topic SET partitions = ? WHERE id = ?", (partitions, number))
            for partition in range(before, partitions):
                topition = store.execute("INSERT INTO topition (topic, partition) VALUES (?, ?)", (number, partition)).lastrowid
                store.execute("INSERT INTO watermark (topition, low, high) VALUES (?, 0, 0)", (topition,))

    def producer(self):
        return kafka.Producer({"bootstrap.servers": self.address, "linger.ms": 5, "message.timeout.ms": PATIENCE * 1000})

    def messages(self, topic, login):
        """Returns partition, offset and id of all there is, as another client reads them."""
        client = kafka.Consumer({"bootstrap.servers": self.address, "group.id": "proof", "auto.offset.reset": "error",
                                 "enable.auto.commit": False, "enable.partition.eof": True, **login})
        count = len(client.list_topics(topic, PATIENCE).topics[topic].partitions)
        client.assign([kafka.TopicPartition(topic, partition, 0) for partition in range(count)])
        found, ended, end = [], set(), time.monotonic() + PATIENCE
        while len(ended) < count:
            if time.monotonic() > end:
                raise Unexpected(f"the end of {topic} is not reached")
            message = client.poll(1)
            if message is None:
                continue
            if not message.error():
                found.append((message.partition(), message.offset(), int(message.value()[6:-1])))
            elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
        client.close()
        return found


class Publisher(threading.Thread):
    """Writes to all partitions until it is told to stop, also if the broker goes away meanwhile."""

    def __init__(self, broker, topic, partitions, rate):
        super().__init__(daemon=True)
        self.producer, self.topic, self.partitions, self.rate = broker.producer(), topic, partitions, rate
        self.stopping, self.sent = threading.Event(), 0

    def run(self):
        while not self.stopping.wait(0.02):
            for _ in range(self.rate // 50):
                with contextlib.suppress(BufferError):
                    self.producer.produce(self.topic, b'{"id":%d}' % self.sent, partition=self.sent % self.partitions)
                    self.sent += 1
            self.producer.poll(0)

    def finish(self):
        self.stopping.set()
        self.join()
        if left := self.producer.flush(PATIENCE):
            raise Unexpected(f"{left} messages could not be written")


class Case:
    """A topic, and a dataset of it."""

    def __init__(self, options, broker, name, login=None, **settings):
        self.options, self.broker, self.topic, self.login = options, broker, name, login or {}
        self.work = broker.directory / name
        self.work.mkdir()
        (self.work / "pintail.toml").write_text(CONFIG)
        self.dataset = oracle.Dataset(self.work / "out")
        self.settings = {"source.brokers": [broker.address], "source.topics": [name], **settings}

    def pintail(self, command=("run",), **more):
        return Pintail(self.options.pintail, self.settings | more, self.work, command=[*command, "--config", "pintail.toml"])

    def produce(self, producer, ids, partitions):
        for number in ids:
            producer.produce(self.topic, b'{"id":%d}' % number, partition=number % partitions)
        if producer.flush(PATIENCE):
            raise Unexpected("messages could not be written")

    def messages(self):
        return self.broker.messages(self.topic, self.login)

    def committed(self):
        return sum(record["counts"]["records_in"] for record in self.dataset.records()) if self.dataset.last() else 0

    def rows(self):
        """Returns the rows that a reader sees."""
        return sum(parquet.read_metadata(path).num_rows for path in self.work.glob("out/p=*/*.parquet"))

    def compare(self):
        """Reads what is left, and holds the dataset against the topic. Returns how many messages there are."""
        expected = self.messages()
        with self.pintail() as process:
            process.wait_until(lambda: self.committed() >= len(expected), f"message {len(expected)}", PATIENCE)
            stop(process)
        self.dataset.check()
        return self.hold(expected)

    def hold(self, expected):
        """Holds all rows against messages. Returns how many there are."""
        self.pintail(("verify",)).run()
        connection = duckdb.connect()
        connection.register("rows", pyarrow.table(dict(zip("poi", zip(*expected), strict=True))))
        connection.execute("CREATE TABLE expected AS SELECT p::BIGINT AS p, o::BIGINT AS o, i::BIGINT AS id FROM rows")
        connection.execute(f"CREATE TABLE found AS SELECT p::BIGINT AS p, o::BIGINT AS o, id::BIGINT AS id FROM {self.dataset.scan()}")
        oracle.check_found(connection)
        return len(expected)


def stop(*processes):
    """Ends them with SIGTERM, which must be a good end."""
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in processes:
        if (code := process.wait()) != 0:
            raise Unexpected(f"exit code {code}:\n{process.stderr()[-2000:]}")


def kills(options, broker):
    case, moments, servers = Case(options, broker, "kills"), random.Random(options.seed), 0
    broker.create(case.topic, 4)
    publisher = Publisher(broker, case.topic, 4, options.rate)
    publisher.start()
    try:
        for number in range(options.kills):
            before = case.dataset.last_number()
            with case.pintail() as process:
                process.wait_commits_after(case.dataset, before, PATIENCE)
                time.sleep(moments.uniform(0, 0.3))
                if number % 5 == 2:
                    broker.kill()
                    servers += 1
                    time.sleep(moments.uniform(0, 0.5))
                    if servers % 2:
                        process.signal(signal.SIGKILL)
                    broker.start()
                    if not servers % 2:
                        process.wait_commits_after(case.dataset, case.dataset.last_number() + 1, PATIENCE)
                process.signal(signal.SIGKILL)
    finally:
        publisher.finish()
    return f"{case.compare()} messages, each once; {options.kills} kills, {servers} of them of the broker too"


def partitions(options, broker):
    case = Case(options, broker, "partitions")
    broker.create(case.topic, 2)
    case.produce(broker.producer(), range(1000), 2)
    with case.pintail() as process:
        process.wait_until(lambda: case.committed() == 1000, "the first two partitions", PATIENCE)
        broker.grow(case.topic, 4)
        case.produce(broker.producer(), range(1000, 3000), 4)
        process.wait_until(lambda: case.committed() == 3000, "the partitions that were added", PATIENCE)
    return f"{case.compare()} messages, each once"


def instances(options, broker):
    case = Case(options, broker, "instances")
    broker.create(case.topic, 6)

    def run(index, count, *arguments):
        return case.pintail(("run", *arguments), **{"source.instance.index": index, "source.instance.count": count})

    case.produce(broker.producer(), range(3000), 6)
    with run(0, 3) as first:
        first.wait_log("line ready")
        with run(1, 3) as second, run(2, 3) as third:
            first.wait_until(lambda: case.rows() == 3000, "message 3000", PATIENCE)
            second.signal(signal.SIGKILL)
            second.wait()
            case.produce(broker.producer(), range(3000, 6000), 6)
            with run(1, 3) as second:
                first.wait_until(lambda: case.rows() == 6000, "message 6000", PATIENCE)
                stop(first, second, third)
    case.produce(broker.producer(), range(6000, 9000), 6)
    with run(1, 2, "--take-over") as second:
        second.wait_log("line ready")
        with run(0, 2) as first:
            first.wait_until(lambda: case.rows() == 9000, "message 9000", PATIENCE)
            stop(first, second)
    return f"{case.hold(case.messages())} messages, each once"


def again(options, broker):
    case = Case(options, broker, "again")
    broker.create(case.topic, 2)
    case.produce(broker.producer(), range(1000), 2)
    with case.pintail() as process:
        process.wait_until(lambda: case.committed() == 1000, "the first topic", PATIENCE)
        broker.delete(case.topic)
        broker.create(case.topic, 2)
        case.produce(broker.producer(), range(5000), 2)
        code = process.wait(PATIENCE)
        if code != 65 or "recreated" not in process.stderr():
            raise oracle.Broken(f"exit code {code}:\n{process.stderr()[-2000:]}")
    if (rows := case.committed()) != 1000:
        raise oracle.Broken(f"{rows} messages are committed, 1000 are of the first topic")
    return "refused with exit code 65, nothing of the second topic taken"


def login(options, broker):
    made = subprocess.run([options.nisshi, "user", "create", "--broker", broker.url, USER, PASSWORD], capture_output=True, text=True)
    if made.returncode:
        raise Unexpected(f"the user cannot be made: {made.stderr}")
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": USER,
                  "ssl.ca.location": str(TLS / "server.pem")}
    case = Case(options, broker, "login", properties | {"sasl.password": PASSWORD}, **{"source.properties": properties})
    broker.create(case.topic, 2)
    case.produce(broker.producer(), range(1000), 2)
    broker.kill()
    broker.options = ("--authentication", "--cert", TLS / "server.pem", "--key", TLS / "server.key")
    broker.start()
    wrong = PASSWORD[::-1]
    with case.pintail(**{"source.password": wrong}) as process:
        code = process.wait(PATIENCE)
        if code != 78 or "refuses the login" not in process.stderr() or wrong in process.stderr():
            raise oracle.Broken(f"a wrong password: exit code {code}:\n{process.stderr()[-2000:]}")
    case.settings["source.password"] = PASSWORD
    return f"{case.compare()} messages over TLS, with SCRAM; a wrong password refused with exit code 78"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pintail", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    add("--nisshi", type=Path, metavar="PATH", default=shutil.which("nisshi"), help="the broker (%(default)s)")
    add("--kills", type=int, metavar="N", default=5, help="rounds of kills (%(default)s)")
    add("--rate", type=int, metavar="N", default=2_000, help="messages a second while it kills (%(default)s)")
    add("--seed", type=int, metavar="S", help="repeats the pauses of a run (random)")
    options = parser.parse_args()
    if not options.nisshi or not os.access(options.pintail, os.X_OK):
        parser.error(f"it takes the broker (`cargo install nisshi`), and {options.pintail} must be a program")
    options.pintail, options.nisshi = options.pintail.resolve(), Path(options.nisshi).resolve()
    options.seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"--seed {options.seed}, librdkafka {kafka.libversion()[0]} beside Pintail's own", flush=True)
    failed = 0
    for case in (kills, partitions, instances, again, login):
        work = Path(tempfile.mkdtemp(prefix="pintail-kafka-"))
        broker, begin = Broker(options.nisshi, work), time.monotonic()
        try:
            print(f"{case.__name__:13} {case(options, broker.start())}, {time.monotonic() - begin:.0f} s", flush=True)
        except (oracle.Broken, Unexpected, kafka.KafkaException) as error:
            failed += 1
            print(f"{case.__name__:13} FAILED: {error}", flush=True)
        finally:
            broker.kill()
            shutil.rmtree(work)
    print("passed" if not failed else f"failed: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
