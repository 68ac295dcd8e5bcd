"""A headless Chromium, driven by chromedriver's WebDriver over plain HTTP.

Owns: both processes, the window, what the browser wrote to its console.
Does not own: what is looked at (see browser.py).
"""
import base64
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id, fixed by the W3C's WebDriver."""
CONTROL, ENTER = "\ue009", "\ue007"
START_SECONDS = 20


class Failed(Exception):
    """The page did not do what it should."""


class Browser:
    """One window. `with Browser() as browser:` ends both processes at the end."""

    def __init__(self):
        program = shutil.which("chromedriver")
        if not program:
            raise SystemExit("it takes a browser: apt-get install chromium chromium-driver")
        # A group of its own, since the browser is a child of chromedriver and must not outlive it.
        self.driver = subprocess.Popen([program, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self.base = f"http://127.0.0.1:{self.port()}"
            flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
            # Chromium has no sandbox for root, as in a container of a build.
            flags += ["--no-sandbox"] * (os.geteuid() == 0)
            wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self.end()
            raise
        self.base += f"/session/{session['sessionId']}"

    def port(self):
        seen, end = b"", time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.driver.poll() is None:
            if select.select([self.driver.stdout], [], [], 0.2)[0]:
                seen += os.read(self.driver.stdout.fileno(), 4096)
            if found := re.search(rb"successfully on port (\d+)", seen):
                return int(found[1])
        raise Failed(f"chromedriver did not start: {seen.decode(errors='replace')}")

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path}: {json.load(error)['value']['message']}") from None

    def open(self, address):
        self.send("POST", "/url", {"url": address})

    def run(self, script, *arguments):
        """Runs JavaScript in the page and returns its value."""
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features):
        """Sets media features: prefer(color_scheme="dark")."""
        features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def type(self, selector, text, clear=True):
        element = self.send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        if clear:
            self.send("POST", f"/element/{element}/clear", {})
        self.send("POST", f"/element/{element}/value", {"text": text})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def wait(self, what, script, *arguments, seconds=15):
        """Waits until a script returns something true, and returns that."""
        end = time.monotonic() + seconds
        while not (value := self.run(script, *arguments)):
            if time.monotonic() > end:
                raise Failed(f"not within {seconds} s: {what}")
            time.sleep(0.1)
        return value

    def console(self):
        """Returns what was written to the console since the last call: [(level, text)]."""
        return [(entry["level"], entry["message"]) for entry in self.send("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path):
        """Takes the whole page, not only what the window shows."""
        metrics = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": metrics["width"], "height": metrics["height"], "scale": 1}
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def end(self):
        if hasattr(self, "base"):
            with contextlib.suppress(Exception):
                self.send("DELETE", "")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
