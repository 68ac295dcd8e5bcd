"""What the chart renders to: valid, the same as the example where nothing is set, and what the values say.

Owns: these checks.
Does not own: how helm is made to render (see cluster.py), the example's own checks (see ../container/examples.py).
"""
import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

import helm_sdkpy
import kubernetes_validate
import yaml

import cluster
from failed import Failed, expect

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "dist/chart"
KUBERNETES_VERSION = "1.34"
# Kinds of the operator for Prometheus have no schema in Kubernetes itself.
CUSTOM = {"ServiceMonitor"}
CONFIG = """
[source]
type = "nats"
url = "nats://nats:4222"
stream = "SALES"

[[schema.columns]]
name = "id"
type = "int64"

[transform]
sql = "SELECT id FROM events"

[sink]
partition_by = []
"""
ALL = {
    "config": CONFIG, "env": {"PINTAIL_LOG__LEVEL": "debug"},
    "secretEnv": {"PINTAIL_ADMIN__QUERY_TOKEN": "a secret of 25 characters"}, "existingSecret": "pintail-nats",
    "persistence": {"enabled": False, "emptyDirSizeLimit": "2Gi"}, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "extraVolumes": [{"name": "lookup", "configMap": {"name": "shops"}}], "extraVolumeMounts": [{"name": "lookup", "mountPath": "/lookup", "readOnly": True}],
    "serviceAccountName": "lake", "imagePullSecrets": [{"name": "registry"}], "terminationGracePeriodSeconds": 60,
    "image": {"repository": "registry.example/pintail", "tag": "1"}, "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "lake", "operator": "Exists"}], "priorityClassName": "high",
}
REFUSED = ({"persistence": {"size": "much"}}, {"terminationGracePeriodSeconds": 5}, {"replicas": 2}, {"env": {"A B": "1"}}, {"image": {"repository": ""}},
           {"secretEnv": {"PINTAIL_ADMIN__QUERY_TOKEN": 1}})


def check(binary):
    """Yields a line for each thing that holds."""
    plain = render("pintail", {})
    agree_with_example(plain)
    yield f"as examples/kubernetes.yaml where nothing is set: {', '.join(sorted(plain))}"
    everything = render("sales", ALL)
    values_are_taken(everything)
    settings_are_taken(binary, everything["StatefulSet"], everything["ConfigMap"])
    yield f"every value set: {', '.join(sorted(everything))}; `pintail check` takes the settings"
    for values in REFUSED:
        try:
            render("pintail", values)
        except helm_sdkpy.HelmError as refused:
            expect(f"that the schema refuses {values}", "schema" in str(refused), True)
            continue
        raise Failed(f"helm takes the values {values}")
    yield f"{len(REFUSED)} wrong values are refused by values.schema.json"


def render(release, values):
    """Returns the objects that helm makes of the chart, by kind, each valid."""
    objects = cluster.install(CHART, release, values)
    for found in objects:
        if found["kind"] not in CUSTOM:
            kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)
    return {found["kind"]: found for found in objects}


def agree_with_example(rendered):
    documents = list(yaml.safe_load_all((ROOT / "examples/kubernetes.yaml").read_text()))
    example = {document["kind"]: document for document in documents if document}
    expect("the objects beside those of the example", rendered.keys() - example.keys(), {"PodDisruptionBudget"})
    for kind in ("Service", "StatefulSet"):
        expect(f"the {kind} of chart and example", plain(rendered[kind]), plain(example[kind]))
    expect("the settings of chart and example", settings(rendered), settings(example))


def plain(found):
    """Returns an object without what only helm adds, and without what is compared as settings."""
    spec = found["spec"]
    if found["kind"] == "Service":
        return found["metadata"]["name"], spec | {"selector": label(spec["selector"])}
    pod = spec["template"]
    annotations = {name: value for name, value in pod["metadata"]["annotations"].items() if not name.startswith("checksum/")}
    container = {name: value for name, value in pod["spec"]["containers"][0].items() if name not in ("env", "imagePullPolicy")}
    pod = {"metadata": {"labels": label(pod["metadata"]["labels"]), "annotations": annotations}, "spec": pod["spec"] | {"containers": [container]}}
    return found["metadata"]["name"], spec | {"selector": {"matchLabels": label(spec["selector"]["matchLabels"])}, "template": pod}


def label(labels):
    name = "app.kubernetes.io/name"
    return {name: labels[name]}


def settings(objects):
    """Returns the settings that differ from the defaults, whether the file or the environment makes them."""
    found = {f"{section}.{key}": value for section, keys in tomllib.loads(objects["ConfigMap"]["data"]["pintail.toml"]).items() for key, value in keys.items()}
    return found | {key.removeprefix("PINTAIL_").replace("__", ".").lower(): value for key, value in environment(objects["StatefulSet"]).items()}


def environment(stateful):
    return {entry["name"]: entry["value"] for entry in stateful["spec"]["template"]["spec"]["containers"][0].get("env", [])}


def values_are_taken(objects):
    stateful, secret, monitor = objects["StatefulSet"], objects["Secret"], objects["ServiceMonitor"]
    pod = stateful["spec"]["template"]["spec"]
    container = pod["containers"][0]
    expect("names", {found["metadata"]["name"] for found in objects.values()}, {"sales-pintail"})
    expect("the image", container["image"], "registry.example/pintail:1")
    expect("volume claims", "volumeClaimTemplates" in stateful["spec"], False)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    expect("the dataset's directory", volumes["lake"]["emptyDir"], {"sizeLimit": "2Gi"})
    expect("what is mounted", {mount["name"] for mount in container["volumeMounts"]}, volumes.keys())
    expect("the secrets", container["envFrom"], [{"secretRef": {"name": "sales-pintail"}}, {"secretRef": {"name": "pintail-nats"}}])
    expect("the secret's content", secret["stringData"], ALL["secretEnv"])
    expect("where else a secret stands", "25 characters" in yaml.safe_dump([stateful, objects["ConfigMap"]]), False)
    expect("what the monitor selects", monitor["spec"]["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items(), True)
    expect("what the budget selects", objects["PodDisruptionBudget"]["spec"]["selector"], stateful["spec"]["selector"])
    expect("time to drain and to be killed", (environment(stateful)["PINTAIL_PIPELINE__SHUTDOWN_TIMEOUT"], pod["terminationGracePeriodSeconds"]), ("55s", 60))
    expect("the account", (pod["serviceAccountName"], pod["automountServiceAccountToken"]), ("lake", True))
    expect("the configuration", objects["ConfigMap"]["data"]["pintail.toml"], CONFIG)


def settings_are_taken(binary, stateful, configmap):
    """Asks the binary. There is no server of NATS; that must be all that it finds."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pintail.toml"
        path.write_text(configmap["data"]["pintail.toml"])
        env = os.environ | environment(stateful) | ALL["secretEnv"] | {"PINTAIL_SOURCE__URL": "nats://127.0.0.1:1"}
        done = subprocess.run([Path(binary).resolve(), "check", "--config", path], capture_output=True, text=True, cwd=directory, env=env)
        if "cannot reach nats://127.0.0.1:1" not in done.stderr:
            raise Failed(f"`pintail check` with the chart's settings: {done.stderr.strip()}")
