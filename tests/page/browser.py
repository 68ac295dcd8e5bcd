#!/usr/bin/env python3
"""Looks at the admin server's page in a headless Chromium, as a reader does, while the real binary serves it.

    python3 tests/page/browser.py                       below a minute
    python3 tests/page/browser.py --shots DIR           keeps the screenshots: light and dark, 1600 and 400 px

  events      a followed file: the page updates by itself; text from events, <script> included, is shown as text
  query       the SQL box: a wrong token, a refused statement, a result, a cut result, by button and Ctrl+Enter
  restart     kill -9 and a new start on the same port: the page says so, and comes back by itself with the right figures
  empty       nothing committed yet: each part says what to expect; which stage is called slow in which situation
  load        the simulator at full speed: the slow stage is named in words, both plots have their lines

Of each: no error on the console, nothing from elsewhere, no horizontal scrolling at 400 to 1600 px, contrast of at least 4.5 in both
schemes, labels, headings, heads of tables. Needs Debian's chromium and chromium-driver; nothing else.

Owns: what is done to the service and to the page, the verdict.
Does not own: the browser (see driver.py), what every state of the page must keep to (see rules.py), the binary (see ../proof/process.py).
"""
import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "proof"))

import judgement
import rules
from driver import CONTROL, ENTER, Browser, Failed
from process import Pintail, Unexpected, default_binary

TOKEN = "correct-horse-battery"
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
AWAY = r"/api/(events|history|checkpoints|status).*(ERR_|50[234])"
"""What the browser itself writes to the console while nobody answers."""


class Service:
    """The binary on one port, over all its starts."""

    def __init__(self, options, work, **settings):
        self.port = options.port or free_port()
        self.address = options.page or f"http://127.0.0.1:{self.port}"
        config = {"admin.listen": f"127.0.0.1:{self.port}", "pipeline.out_path": str(work / "lake"), "log.format": "json"}
        config |= {key.replace("__", "."): value for key, value in settings.items()}
        self.make = lambda: Pintail(options.binary, config, work)
        self.pintail = self.make()

    def start(self):
        self.pintail.start()
        self.pintail.wait_until(self.answers, "answer of the admin server")

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.pintail.signal(signal.SIGKILL)
        self.pintail.wait()
        self.pintail = self.make()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.pintail.end()


class Look:
    """The page in the browser, with the rules that hold all the time."""

    def __init__(self, browser, shots):
        self.browser, self.shots = browser, shots

    def open(self, address):
        self.browser.size(1600, 1000)
        self.browser.prefer(color_scheme="light")
        self.browser.open(f"{address}/")
        self.wait("the first state", "return document.querySelector('#state').textContent === 'ready'")

    def wait(self, what, script, *arguments, seconds=20):
        return self.browser.wait(what, script, *arguments, seconds=seconds)

    def wait_text(self, selector, text, seconds=20):
        script = "return document.querySelector(arguments[0])?.innerText.includes(arguments[1])"
        try:
            self.wait(f"{text!r} in {selector}", script, selector, text, seconds=seconds)
        except Failed as failed:
            raise Failed(f"{failed}; there is {self.browser.text(selector)!r}") from None

    def check(self, name, allowed=None):
        rules.check_all(self.browser, name, allowed)
        for scheme in ("light", "dark"):
            for width in (1600, 400):
                self.browser.size(width, 1000)
                self.browser.prefer(color_scheme=scheme)
                # Plots are drawn again with the next state.
                time.sleep(1.2)
                self.browser.screenshot(self.shots / f"{name}-{width}-{scheme}.png")
        self.browser.size(1600, 1000)
        self.browser.prefer(color_scheme="light")


def events(numbers, region):
    return "".join(json.dumps({"timestamp": 1_767_225_600_000 + n, "user_id": n, "region": region, "amount": 10.0, "sku": "a"}) + "\n" for n in numbers)


def followed(look, options, work):
    """Parts events, query and restart: one service that follows a file."""
    source = work / "events.ndjson"
    source.write_text(events(range(40), "us") + events(range(40, 43), HOSTILE) + f'{{"region": "{HOSTILE}", "amount": \n')
    settings = {
        "source.type": "file", "source.path": str(source), "source.follow": True, "pipeline.checkpoint_interval": "1s",
        "monitor.group_by": "region", "admin.query": True, "admin.query_token": TOKEN, "admin.query_rows_max": 7,
    }
    with Service(options, work, **settings) as service:
        look.open(service.address)
        see_events(look, source)
        ask(look)
        look.check("events", allowed=r"/api/query.*40[01]")
        come_back(look, service, source)


def see_events(look, source):
    look.wait_text("#checkpoints", "interval")
    look.wait_text("#groups", HOSTILE)
    look.wait_text("#partitions", "region=us")
    look.browser.run("document.querySelector('#dead-letters details').open = true")
    look.wait_text("#dead-letters .samples", HOSTILE)
    look.wait_text("#identity-of-counts", "44 records in = 43 rows out + 0 filtered + 1 dead letters")
    before = look.browser.text("#checkpoints tbody th")
    with source.open("a") as file:
        file.write(events(range(100, 150), "eu"))
    look.wait_text("#partitions", "region=eu")
    look.wait_text("#identity-of-counts", "94 records in = 93 rows out")
    look.wait("a new checkpoint on top", "return Number(document.querySelector('#checkpoints tbody th').textContent) > Number(arguments[0])", before)
    if not look.browser.run("return document.querySelector('#dead-letters details').open"):
        raise Failed("the reader's opened dead letter was closed by an update")


def ask(look):
    browser = look.browser
    browser.type("#token", "wrong-horse-battery")
    browser.run("document.querySelector('#query-form button').click()")
    look.wait_text("#query-outcome.failed", "token")
    browser.type("#token", TOKEN)
    browser.type("#sql", "COPY events TO '/tmp/x.csv'" + CONTROL + ENTER)
    look.wait_text("#query-outcome.failed", "SELECT")
    browser.type("#sql", "SELECT region, count(*) AS n, NULL AS nothing FROM events GROUP BY region ORDER BY n DESC" + CONTROL + ENTER)
    look.wait_text("#query-outcome", "3 rows in")
    table = browser.run("return [...document.querySelectorAll('#query-result tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))")
    if table != [["eu", "50", "NULL"], ["us", "40", "NULL"], [HOSTILE, "3", "NULL"]]:
        raise Failed(f"the SQL box shows {table}")
    browser.type("#sql", "SELECT user_id FROM events" + CONTROL + ENTER)
    look.wait_text("#query-outcome.cut", "7 rows")
    browser.type("#sql", "SELECT region, count(*) AS n, round(avg(amount), 2) AS mean FROM events GROUP BY region ORDER BY n DESC" + CONTROL + ENTER)
    look.wait_text("#query-outcome", "3 rows in")


def come_back(look, service, source):
    look.browser.run("window.sameDocument = true")
    service.kill()
    look.wait_text("#lost", "Connection lost, trying again")
    look.wait("more than one try", "return /times so far/.test(document.querySelector('#lost').textContent)")
    look.browser.screenshot(look.shots / "lost-1600-light.png")
    with source.open("a") as file:
        file.write(events(range(200, 210), "eu"))
    service.start()
    look.wait("the page comes back", "return document.querySelector('#lost').hidden && document.querySelector('#state').textContent === 'ready'")
    look.wait_text("#identity-of-counts", "104 records in = 103 rows out + 0 filtered + 1 dead letters")
    look.wait_text("#state", "ready")
    if not look.browser.run("return window.sameDocument"):
        raise Failed("the page was loaded again instead of coming back by itself")
    rules.check_console(look.browser, "restart", AWAY)
    time.sleep(2)
    rules.check_console(look.browser, "after the restart")


def empty(look, options, work):
    source = work / "none.ndjson"
    source.write_text("")
    settings = {"source.type": "file", "source.path": str(source), "source.follow": True}
    with Service(options, work, **settings) as service:
        look.open(service.address)
        look.wait_text("#checkpoints", "Nothing committed yet: a checkpoint comes every 30 s")
        look.wait_text("#dead-letters-empty", "None.")
        look.wait_text("#verdict", "No stage is slow")
        judgement.check(look.browser)
        if not look.browser.run("return document.querySelector('#query').hidden"):
            raise Failed("the SQL box shows although `admin.query` is off")
        look.check("empty")


def load(look, options, work):
    # A query that costs something in the transformer: the slow stage must be that one.
    sql = """SELECT epoch_ms("timestamp") AS ts, user_id, region, amount, sku, CASE WHEN amount >= 50 THEN 'high' ELSE 'low' END AS bucket,
        sha256(sha256(sha256(sku || user_id))) AS digest FROM events"""
    settings = {"source.rate": 0, "pipeline.checkpoint_interval": "5s", "transform.sql": sql, "transform.threads": 1, "admin.query": True}
    with Service(options, work, **settings) as service:
        look.open(service.address)
        look.wait_text("#checkpoints", "interval", seconds=30)
        look.wait_text("#verdict", "The transformer is the slow stage", seconds=30)
        look.wait_text(".stage.slow", "slow stage")
        look.wait_text("#groups", "high")
        # Some samples for the plots.
        time.sleep(options.load_seconds)
        drawn = look.browser.run("return [...document.querySelectorAll('.plot canvas')].map((canvas) => canvas.width > 100)")
        if drawn != [True, True]:
            raise Failed(f"two plots should be drawn: {drawn}")
        look.check("load")


PARTS = {"events": followed, "empty": empty, "load": load}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\nOwns")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--binary", type=Path, metavar="PATH", default=default_binary(), help="the binary (%(default)s)")
    add("--shots", type=Path, metavar="DIR", help="where the screenshots are kept (nowhere)")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="what to do; `events` includes query and restart")
    add("--load-seconds", type=int, metavar="N", default=8, help="how long the load is watched before the screenshots (%(default)s)")
    add("--page", metavar="URL", help="address of the page, if something stands before the service, as while the page is developed")
    add("--port", type=int, metavar="PORT", help="port of the service (a free one)")
    options = parser.parse_args()
    if not os.access(options.binary, os.X_OK):
        parser.error(f"{options.binary} must be a program")
    return options


def main():
    options, failed = arguments(), []
    # As an exception, so that what was started is ended and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="pintail-page-", ignore_cleanup_errors=True) as work, Browser() as browser:
        shots = options.shots or Path(work) / "shots"
        shots.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            begin, part = time.monotonic(), Path(work) / name
            part.mkdir()
            try:
                PARTS[name](Look(browser, shots), options, part)
                result = "passed"
            except (Failed, Unexpected) as error:
                browser.screenshot(shots / f"failed-{name}.png")
                result = f"FAILED: {error}"
                failed.append(name)
            # The console of one part is not the next one's.
            browser.open("about:blank")
            browser.console()
            print(f"{name:8} {time.monotonic() - begin:4.0f} s  {result}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "passed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
