#!/usr/bin/env python3
"""Holds the examples for containers to the schemas of those who read them, and to the image.

    pip install compose-spec kubernetes-validate pyyaml
    python3 tests/container/examples.py

  compose.yaml       parsed by `compose-spec` (a strict parser of the Compose specification); the configurations inside it are YAML; files and
                     volumes that it names are there; with Docker Compose at hand, `docker compose config` as well
  kubernetes.yaml    each document against the JSON schema of its kind, strictly (`kubernetes-validate`); selectors, claims and ports agree
  nats.toml          what the services of the profile `nats` make and read
  tour/              compose.yaml as above; what the shops publish, against the subjects of the stream and both configurations, which `pintail check` takes
  both               user, path and port are those of the Dockerfile and of each other; the settings are ones that the binary knows

Owns: these checks.
Does not own: that the services start (nothing is pulled or started).
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
KUBERNETES_VERSION = "1.34"
PORT = 9464

try:
    import kubernetes_validate
    import yaml
    from compose_spec import PyCompose
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: pip install compose-spec kubernetes-validate pyyaml")


class Wrong(Exception):
    """An example says something that is not so."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", type=Path, help="a built pintail, which then checks the settings")
    binary = parser.parse_args().binary
    checks = {"compose.yaml": compose, "docker compose config": docker_compose, "tour/compose.yaml": tour, "kubernetes.yaml": kubernetes,
              "settings": lambda: settings(binary)}
    failed = []
    for name, check in checks.items():
        try:
            print(f"{name}: {check()}")
        except (Wrong, ValueError, KeyError, kubernetes_validate.ValidationError, subprocess.SubprocessError) as wrong:
            print(f"{name}: WRONG: {type(wrong).__name__}: {getattr(wrong, 'message', wrong)}")
            failed.append(name)
    sys.exit(f"FAILED: {', '.join(failed)}" if failed else 0)


def parsed(path):
    """Reads a file of Compose, and checks that its services find what they name."""
    text = path.read_text()
    PyCompose.from_yaml(text)
    file = yaml.safe_load(text)
    for name, config in file["configs"].items():
        if "content" in config:
            yaml.safe_load(config["content"])
        elif not (path.parent / config["file"]).is_file():
            raise Wrong(f"configs.{name} is the file {config['file']}, which is not there")
    for name, service in file["services"].items():
        for config in service.get("configs", []):
            expect(f"the configuration {config['source']} of {name}", config["source"] in file["configs"], True)
        for volume in service.get("volumes", []):
            expect(f"the volume {volume} of {name}", volume.split(":")[0] in file["volumes"], True)
        for needed in service.get("depends_on", []):
            expect(f"the service {needed}, on which {name} depends", needed in file["services"], True)
    return file


def tour():
    file = parsed(EXAMPLES / "tour" / "compose.yaml")
    services, image = file["services"], dockerfile()
    made = services["stream"]["command"]
    stream, subjects = made[made.index("add") + 1], made[made.index("--subjects") + 1].removesuffix(">")
    targets = {config["target"] for config in services["pintail"]["configs"]}
    for name in ("pintail", "mended"):
        config = tomllib.loads((EXAMPLES / "tour" / f"{name}.toml").read_text())
        expect(f"the place of {name}.toml", f"/tour/{name}.toml" in targets, True)
        expect("the stream that is made and read", (stream, "nats://nats:4222"), (config["source"]["stream"], config["source"]["url"]))
        columns = {column["name"] for column in config["schema"]["columns"]}
    for name in ("berlin", "boston", "bonn"):
        command = services[name]["command"]
        expect(f"the subject of {name}", command[command.index("pub") + 1].startswith(subjects), True)
        sale = json.loads(command[-1].replace("{{Count}}", "1").replace("{{TimeStamp}}", "2026-01-05T10:00:00Z"))
        expect(f"what {name} publishes", (set(sale), sale["shop"]), (columns, name))
    expect("the path of the volume", services["pintail"]["volumes"], [f"lake:{image['VOLUME']}"])
    scraped = yaml.safe_load(file["configs"]["prometheus"]["content"])["scrape_configs"][0]["static_configs"][0]["targets"]
    expect("what Prometheus scrapes", scraped, [f"pintail:{PORT}"])
    return f"{len(services)} services, {len(file['configs'])} configurations"


def compose():
    file = parsed(EXAMPLES / "compose.yaml")
    image, lines = dockerfile(), ("pintail", "pintail-nats")
    for name, volume in zip(lines, ("lake", "sales"), strict=True):
        pintail = file["services"][name]
        expect(f"the path of the volume of {name}", pintail["volumes"], [f"{volume}:{image['VOLUME']}"])
        expect(f"the listener of {name}", pintail["environment"]["PINTAIL_ADMIN__LISTEN"], f"0.0.0.0:{PORT}")
    with_nats(file["services"])
    scraped = yaml.safe_load(file["configs"]["prometheus"]["content"])["scrape_configs"][0]["static_configs"][0]["targets"]
    expect("what Prometheus scrapes", scraped, [f"{name}:{PORT}" for name in lines])
    return f"{len(file['services'])} services, {len(file['configs'])} configurations, {len(file['volumes'])} volumes"


def with_nats(services):
    """The services of the profile agree with each other and with the configuration of Pintail."""
    source = tomllib.loads((EXAMPLES / "nats.toml").read_text())["source"]
    made = services["stream"]["command"]
    expect("the stream that is made", made[made.index("add") + 1], source["stream"])
    subjects = made[made.index("--subjects") + 1]
    expect("what it holds", source["subject"].startswith(subjects.removesuffix(">")), True)
    pintail = services["pintail-nats"]
    expect("where its configuration lies", pintail["command"][1], pintail["configs"][0]["target"])
    expect("the servers", [made[made.index("--server") + 1], pintail["environment"]["PINTAIL_SOURCE__URL"]], ["nats:4222", "nats://nats:4222"])
    expect("the profile", {name for name, service in services.items() if "nats" in service.get("profiles", [])}, {"nats", "stream", "pintail-nats"})


def docker_compose():
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
        return "not there, left out"
    done = subprocess.run(["docker", "compose", "-f", EXAMPLES / "compose.yaml", "config", "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Wrong(done.stderr.strip())
    return "no fault"


def kubernetes():
    documents = [document for document in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()) if document]
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    of_kind = {document["kind"]: document for document in documents}
    stateful, service, configmap = of_kind["StatefulSet"], of_kind["Service"], of_kind["ConfigMap"]
    spec, pod = stateful["spec"], stateful["spec"]["template"]
    container, image = pod["spec"]["containers"][0], dockerfile()
    expect("the labels of the pods", pod["metadata"]["labels"], spec["selector"]["matchLabels"])
    expect("the selector of the service", service["spec"]["selector"], spec["selector"]["matchLabels"])
    expect("the service of the StatefulSet", spec["serviceName"], service["metadata"]["name"])
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    expect("the volumes that are mounted", mounts.keys(), volumes)
    expect("the path of the volume", mounts["lake"], image["VOLUME"])
    expect("user and group", f"{pod['spec']['securityContext']['runAsUser']}:{pod['spec']['securityContext']['runAsGroup']}", image["USER"])
    expect("the configuration's volume", pod["spec"]["volumes"][0]["configMap"]["name"], configmap["metadata"]["name"])
    config = Path(container["args"][1])
    expect("the configuration's path", (str(config.parent), config.name in configmap["data"]), (mounts["config"], True))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    expect("ports", (ports, probes, service["spec"]["ports"][0]["port"]), ({"admin": PORT}, {"admin"}, PORT))
    drain = int(re.search(r'shutdown_timeout = "(\d+)s"', configmap["data"]["pintail.toml"])[1])
    expect("time to drain below the grace period", drain < pod["spec"]["terminationGracePeriodSeconds"], True)
    return f"{', '.join(document['kind'] for document in documents)} fit the schemas of {KUBERNETES_VERSION}"


def settings(binary):
    """Asks the binary whether it would take what the examples set."""
    if not binary:
        return "not asked: no --binary"
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    toml = next(document for document in documents if document["kind"] == "ConfigMap")["data"]["pintail.toml"]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pintail.toml"
        path.write_text(toml)
        for arguments, env in ((["--config", path], {}), ([], services["pintail"]["environment"])):
            done = subprocess.run([binary.resolve(), "check", *arguments], capture_output=True, text=True, cwd=directory, env=os.environ | env)
            if done.returncode != 0:
                raise Wrong(f"`pintail check` ended with {done.returncode}: {done.stderr.strip()}")
        # They ask the server; that there is none must be the only fault.
        for name in ("pintail", "mended"):
            settings = ["--config", EXAMPLES / "tour" / f"{name}.toml", "--set", "source.url=nats://127.0.0.1:1", "--set", "admin.listen="]
            done = subprocess.run([binary.resolve(), "check", *settings], capture_output=True, text=True, cwd=directory)
            expect(f"what `pintail check` says of tour/{name}.toml without a server", re.sub("(?<=:1): .*", "", done.stderr).strip(),
                   "pintail: cannot reach nats://127.0.0.1:1")
        away = services["pintail-nats"]["environment"] | {"PINTAIL_SOURCE__URL": "nats://127.0.0.1:1"}
        done = subprocess.run([binary.resolve(), "check", "--config", EXAMPLES / "nats.toml"], capture_output=True, text=True, cwd=directory,
                              env=os.environ | away)
        expect("what `pintail check` says without a server", re.sub("(?<=:1): .*", "", done.stderr).strip(),
               "pintail: cannot reach nats://127.0.0.1:1")
    return "`pintail check` takes them"


def dockerfile():
    """Returns the user and the volume of the image."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    return {line[0]: line[1] for line in lines if line and line[0] in ("USER", "VOLUME")}


def expect(what, found, expected):
    if found != expected:
        raise Wrong(f"{what}: {found}, expected {expected}")


if __name__ == "__main__":
    main()
