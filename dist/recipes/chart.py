"""The Helm chart.

Owns: its version, that it is linted, and the package.
Does not own: the templates (see ../chart), what they render to (see tests/packages/charts.py).
"""
import json
import re
import subprocess

from tools import OUT, ROOT, VENV, Failed, tar_gz, tree, version

CHART = ROOT / "dist/chart"
# Helm itself, as a library.
LINT = """
import asyncio, json, sys, helm_sdkpy
print(json.dumps(asyncio.run(helm_sdkpy.Lint(helm_sdkpy.Configuration()).run(sys.argv[1]))))
"""


def build():
    stated = re.findall(r'^(?:version|appVersion): "?([^"\n]+)"?$', (CHART / "Chart.yaml").read_text(), re.MULTILINE)
    if stated != [version()] * 2:
        raise Failed(f"dist/chart/Chart.yaml has the versions {', '.join(stated)}, Cargo.toml {version()}")
    lint()
    path = OUT / f"pintail-{version()}.tgz"
    tar_gz(path, "pintail", tree(CHART))
    return path


def lint():
    """Runs helm's lint. Returns its messages."""
    python = VENV / "bin/python"
    if not python.exists():
        raise Failed("Helm is missing: ./dev dist installs it, `./dev --no-install dist` names the command")
    done = subprocess.run([python, "-c", LINT, CHART], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"helm lint: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)
