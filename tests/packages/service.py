"""The Debian package as an administrator meets it: installed, configured, run as a service, upgraded, removed.

Owns: these steps and what must hold after each.
Does not own: the Debian (see debian.py), how the package is made (see dist/recipes/deb.py).
"""
import json
import resource
import shutil
import time

from debian import call, wait_until
from failed import Failed, expect

UNIT = "pintail.service"
STATE = "var/lib/pintail"
CONFIG = "etc/pintail/pintail.toml"
COMPLETIONS = ("usr/share/bash-completion/completions/pintail", "usr/share/zsh/vendor-completions/_pintail", "usr/share/fish/vendor_completions.d/pintail.fish")
SIMULATED = """
[pipeline]
out_path = "/var/lib/pintail/checkpoints"
checkpoint_interval = "1s"
shutdown_timeout = "25s"

[admin]
query = true
"""
# Short times, so that a test sees them pass, and no more descriptors than this machine gives.
QUICK = f"""[Service]
WatchdogSec=3s
TimeoutAbortSec=1s
RestartSec=1s
LimitNOFILE={min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}
"""
# Lintian is right that these are none of Debian's own packages.
TOLERATED = {"bogus-mail-host", "bogus-mail-host-in-debian-changelog", "initial-upload-closes-no-bugs", "maintainer-script-calls-systemctl"}


def check(debian, package):
    """Yields a line for each thing that holds."""
    yield lint(package)
    before = debian.files()
    shutil.copy(package, debian.root / "root/pintail.deb")
    yield installed(debian)
    debian.boot()
    yield from commands(debian)
    yield unconfigured(debian)
    yield from service(debian)
    yield upgraded(debian)
    yield from removed(debian, before)


def lint(package):
    if not shutil.which("lintian"):
        raise Failed("`lintian` is missing: apt-get install lintian")
    tags = {line.split()[2] for line in call("lintian", "--allow-root", "--fail-on", "none", package).splitlines() if line[:2] in ("E:", "W:")}
    expect("what lintian finds beside what is known", tags - TOLERATED, set())
    return f"lintian: {', '.join(sorted(tags)) or 'nothing'}"


def installed(debian):
    debian.run("dpkg", "--install", "/root/pintail.deb")
    # The manual's reader is not in a minimal Debian.
    said = debian.run("systemd-analyze", "verify", "--man=no", f"/lib/systemd/system/{UNIT}")
    expect("what systemd-analyze verify says", said.stderr, "")
    expect("the unit", debian.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip(), "disabled")
    expect("the account", debian.run("getent", "passwd", "pintail").stdout.split(":")[5:], ["/var/lib/pintail", "/usr/sbin/nologin\n"])
    for completion in COMPLETIONS:
        expect(f"that {completion} completes pintail", "pintail" in (debian.root / completion).read_text(), True)
    debian.run("bash", "-n", f"/{COMPLETIONS[0]}")
    exposure = debian.run("systemd-analyze", "security", "--offline=1", UNIT).stdout.strip().splitlines()[-1]
    return f"installed into a fresh Debian: verified, not enabled; {exposure.lstrip('→ ')}"


def commands(debian):
    begin = time.monotonic()
    debian.run("pintail", "demo", "--events", "200000", "--seconds", "5", user="pintail")
    yield f"`pintail demo` as the user, 200,000 events: {time.monotonic() - begin:.1f} s"
    run = ["env", "OUT_PATH=/tmp/lake", "pintail"]
    debian.run(*run, "check", user="pintail")
    debian.run(*run, "run", "--set", "source.limit=1000", "--set", "source.rate=0", user="pintail")
    rows = json.loads(debian.run(*run, "query", "SELECT count(*) AS n FROM events", "--format", "json", user="pintail").stdout.splitlines()[0])
    expect("rows of a short run", rows["n"], 1000)
    yield "`pintail check`, `run` and `query` as the user: 1,000 rows"


def show(debian, *fields):
    said = debian.run("systemctl", "show", UNIT, *(f"--property={field}" for field in fields)).stdout
    found = dict(line.split("=", 1) for line in said.splitlines())
    return [found[field] for field in fields]


def unconfigured(debian):
    """As it is installed, it says what is missing, and is not started again."""
    done = debian.run("systemctl", "start", UNIT, check=False)
    expect("that it starts without a source", done.returncode, 1)
    expect("how it ended", show(debian, "ExecMainStatus", "NRestarts", "ActiveState"), ["78", "0", "failed"])
    log = debian.run("journalctl", "--unit", UNIT, "--output=cat").stdout
    expect("that it names what is missing", "source.path" in log, True)
    return "without a source: exit code 78, which names `source.path`, and no restart"


def service(debian):
    (debian.root / CONFIG).write_text(SIMULATED)
    drop_in = debian.root / f"etc/systemd/system/{UNIT}.d/quick.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(QUICK)
    debian.run("systemctl", "daemon-reload")
    begin = time.monotonic()
    # Comes back once the service has said that it is ready.
    debian.run("systemctl", "enable", "--now", UNIT, timeout=30)
    expect("the service", show(debian, "ActiveState", "Type", "NotifyAccess", "User"), ["active", "notify", "main", "pintail"])
    expect("that it is ready", ask(debian, "readyz")["ready"], True)
    yield f"ready by notification after {time.monotonic() - begin:.1f} s"
    wait_until(lambda: rows(debian) > 0, "the first rows", 30)
    expect("who owns the dataset", (debian.root / STATE / "checkpoints").stat().st_uid, int(debian.run("id", "-u", "pintail").stdout))
    yield f"the SQL box answers under the hardening: {rows(debian):,} rows"
    debian.run("systemctl", "reload", UNIT)
    pid = show(debian, "MainPID")[0]
    time.sleep(5)
    expect("the service after a reload and more than the watchdog's time", show(debian, "MainPID", "NRestarts"), [pid, "0"])
    yield "alive past the watchdog's time"
    for signal, reason in (("KILL", "killed"), ("STOP", "stopped, which the watchdog finds")):
        pid, count = show(debian, "MainPID", "NRestarts")
        debian.run("sh", "-c", f"kill -{signal} {pid}")
        begin = time.monotonic()
        wait_until(lambda: show(debian, "NRestarts", "ActiveState") == [str(int(count) + 1), "active"], f"started again after SIG{signal}", 30)
        yield f"{reason}: runs again after {time.monotonic() - begin:.1f} s"


def ask(debian, path, *options):
    done = call("nsenter", "--target", debian.leader(), "--net", "curl", "--silent", "--max-time", "15", *options, f"http://127.0.0.1:9464/{path}")
    return json.loads(done)


def rows(debian):
    """Returns what the SQL box counts; 0 before the first checkpoint."""
    answer = ask(debian, "api/query", "--header", "Content-Type: application/json", "--data", json.dumps({"sql": "SELECT count(*) AS n FROM events"}))
    if answer.get("error") == "nothing is committed yet":
        return 0
    if "rows" not in answer:
        raise Failed(f"the SQL box: {answer}")
    row = answer["rows"][0]
    return int(row["n"] if isinstance(row, dict) else row[0])


def upgraded(debian):
    pid = show(debian, "MainPID")[0]
    debian.run("dpkg", "--force-confold", "--install", "/root/pintail.deb")
    expect("the service after an upgrade", show(debian, "ActiveState"), ["active"])
    expect("that the new binary runs", show(debian, "MainPID")[0] != pid, True)
    expect("the configuration after an upgrade", (debian.root / CONFIG).read_text(), SIMULATED)
    return "installed once more: the configuration is kept, the service runs the new binary"


def removed(debian, before):
    begin = time.monotonic()
    debian.run("dpkg", "--remove", "pintail")
    expect("the service after removal", debian.run("systemctl", "is-active", UNIT, check=False).stdout.strip(), "inactive")
    log = debian.run("journalctl", "--unit", UNIT, "--output=cat", "--lines=20").stdout
    expect("that it stopped in order", "Deactivated successfully" in log, True)
    expect("that the configuration is kept", (debian.root / CONFIG).is_file(), True)
    yield f"removed: stopped in order within {time.monotonic() - begin:.1f} s, the configuration is kept"
    shutil.rmtree(debian.root / f"etc/systemd/system/{UNIT}.d")
    debian.run("dpkg", "--purge", "pintail")
    (debian.root / "root/pintail.deb").unlink()
    left = {name for name in debian.files() - before if not name.startswith(f"{STATE}/")}
    expect("what is left beside the data", left, {STATE})
    expect("the owner of the data", debian.run("getent", "passwd", "pintail").returncode, 0)
    yield "purged: nothing is left but /var/lib/pintail and its owner"
