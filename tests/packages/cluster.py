"""A server in the place of Kubernetes', for helm to install a chart into.

Owns: the answers that helm needs, and what it sent.
Does not own: what the objects must be (see charts.py). Nothing is scheduled or started.
"""
import asyncio
import contextlib
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm_sdkpy

RESOURCES = {
    "v1": [("configmaps", "ConfigMap"), ("secrets", "Secret"), ("services", "Service")],
    "apps/v1": [("statefulsets", "StatefulSet")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
    "monitoring.coreos.com/v1": [("servicemonitors", "ServiceMonitor")],
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        found = discovery(path)
        if found is None and path.endswith("/secrets"):
            # Releases of before: there are none.
            found = {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
        if found is None:
            self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
        else:
            self._answer(200, found)

    def do_POST(self):
        self._take(201)

    def do_PUT(self):
        self._take(200)

    def _take(self, status):
        sent, kind = self.rfile.read(int(self.headers["Content-Length"])), self.headers["Content-Type"]
        # Helm's record of the release comes as protobuf, and is none of the chart's objects.
        if kind.startswith("application/json"):
            self.server.objects.append(json.loads(sent))
        self._send(status, kind, sent)

    def _answer(self, status, body):
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status, kind, content):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""


def discovery(path):
    """Returns what a server says of itself at a path; None at any other."""
    if path == "version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        groups = [version.split("/") for version in RESOURCES if "/" in version]
        versions = [(name, {"groupVersion": f"{name}/{number}", "version": number}) for name, number in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1",
                "groups": [{"name": name, "versions": [version], "preferredVersion": version} for name, version in versions]}
    version = path.removeprefix("apis/") if path.startswith("apis/") else path.removeprefix("api/")
    if version not in RESOURCES:
        return None
    resources = [{"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["create", "get", "list"]} for name, kind in RESOURCES[version]]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


@contextlib.contextmanager
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.objects = []
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def install(chart, release, values):
    """Lets helm install a chart. Returns the objects that it made, without its own record of the release."""
    with server() as served:
        address = f"http://127.0.0.1:{served.server_address[1]}"
        kubeconfig = json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "here", "user": {}}],
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}]})
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(kubeconfig)
            file.flush()
            configuration = helm_sdkpy.Configuration(namespace="default", kubeconfig=file.name)
            asyncio.run(helm_sdkpy.Install(configuration).run(release, str(chart), values=values, wait=False, timeout=30))
        return served.objects
