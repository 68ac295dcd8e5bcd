#!/usr/bin/env python3
"""How fast events come in over HTTP, beside reading the same events from a file in the same minute.

    python3 benches/push.py             half a minute each, on an otherwise quiet machine; needs `wrk` (Debian's package)

Owns: the load (wrk, on the same cores as Pintail), the two figures: time to an answer at 200 requests of 100 events a second, events a second in
requests of 1,000 events until everything is committed.
Does not own: whether the events arrive (tests/it/http.rs, tests/proof/push.py).
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ADDRESS = re.compile(r'HTTP source listens.*?address\W+(127\.0\.0\.1:\d+)')
# Ten connections that pause after each answer: close to 200 requests a second if answers take 5 ms.
PACED = "function delay() return 45 end\n"
LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-ndjson"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
"""


def events(count, first=0):
    regions = ("us-east", "us-west", "eu", "asia", "africa")
    return "".join(
        json.dumps({"timestamp": 1767225600000 + n // 50, "user_id": n * 7919 % 100_000, "region": regions[n % 5],
                    "amount": n * 31 % 10_000 / 100, "sku": f"SKU-{n % 500:05}"}, separators=(",", ":")) + "\n"
        for n in range(first, first + count))


class Service:
    """Pintail with the HTTP source."""

    def __init__(self, binary, work, **settings):
        self.out = work / "out"
        self.log = open(work / "log", "w+")
        sets = {"source.type": "http", "source.listen": "127.0.0.1:0", "pipeline.out_path": str(self.out), "admin.listen": ""} | settings
        self.child = subprocess.Popen([str(binary), *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))],
                                      stdout=subprocess.DEVNULL, stderr=self.log, env=os.environ | {"NO_COLOR": "1"})
        while not (found := ADDRESS.search((work / "log").read_text())):
            if self.child.poll() is not None:
                sys.exit((work / "log").read_text())
            time.sleep(0.01)
        self.url = f"http://{found[1]}/v1/events"

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def committed(self):
        records = sorted((self.out / "_pintail/commits").rglob("*.json"))
        return json.loads(records[-1].read_text().splitlines()[0])["source"]["partitions"][0]["to"] if records else 0

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        if code := self.child.wait(20):
            sys.exit(f"exit code {code}")


def wrk(url, work, body, seconds, connections, more=""):
    script = work / "wrk.lua"
    script.write_text(LUA.format(body=body) + more)
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(text)
    return text


def latency(options, work):
    body = work / "100.ndjson"
    body.write_text(events(100))
    service = Service(options.pintail, work, **{"pipeline.checkpoint_interval": "5s"})
    text = wrk(service.url, work, body, options.seconds, 10, PACED)
    service.stop()
    percentiles = dict(re.findall(r"(\d+)%\s+([\d.]+\w+)", text))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    print(f"100 events a request, {rate:.0f} requests/s: 50 % within {percentiles['50']}, 90 % {percentiles['90']}, 99 % {percentiles['99']}")


def throughput(options, work):
    body = work / "1000.ndjson"
    body.write_text(events(1000))
    service = Service(options.pintail, work, **{"pipeline.checkpoint_interval": "5s"})
    before, begin = service.cpu_seconds(), time.monotonic()
    text = wrk(service.url, work, body, options.seconds, options.connections)
    accepting = time.monotonic() - begin
    requests = int(re.search(r"(\d+) requests in", text)[1])
    cpu = service.cpu_seconds() - before
    # wrk does not count those that were under way at its end.
    service.stop()
    took, committed = time.monotonic() - begin, service.committed()
    if committed < requests * 1000:
        sys.exit(f"{requests} requests were answered, {committed} events are committed")
    print(f"1,000 events a request, {options.connections} connections: {requests * 1000 / accepting / 1e6:.3f} M events/s accepted, "
          f"{committed / took / 1e6:.3f} M events/s until all {committed / 1e6:.1f} M were committed; Pintail took {cpu / accepting:.2f} cores")
    return committed, committed / took


def plain_file(options, work, count):
    path, block = work / "events.ndjson", events(1000)
    with open(path, "w") as file:
        for _ in range(count // 1000):
            file.write(block)
    os.sync()
    sets = {"source.type": "file", "source.path": str(path), "pipeline.out_path": str(work / "file"), "admin.listen": "",
            "pipeline.checkpoint_interval": "5s"}
    begin = time.monotonic()
    subprocess.run([str(options.pintail), *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return count / (time.monotonic() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR") or "~/.cache/pintail/target"
    parser.add_argument("--pintail", type=Path, metavar="PATH", default=Path(target).expanduser() / "release/pintail", help="the binary (%(default)s)")
    parser.add_argument("--seconds", type=int, metavar="S", default=30, help="time of each load (%(default)s)")
    parser.add_argument("--connections", type=int, metavar="N", default=16, help="of the second load (%(default)s)")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("it takes wrk: apt-get install wrk")
    print(f"load average before: {' '.join(Path('/proc/loadavg').read_text().split()[:3])}, {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory(prefix="pintail-push-") as root:
        for name in ("latency", "throughput"):
            (Path(root) / name).mkdir()
        latency(options, Path(root) / "latency")
        count, pushed = throughput(options, Path(root) / "throughput")
        plain = plain_file(options, Path(root) / "throughput", count)
        print(f"the same events from a file: {plain / 1e6:.2f} M events/s; pushed is {pushed / plain:.2f} of that")


if __name__ == "__main__":
    main()
