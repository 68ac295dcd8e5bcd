"""A real SeaweedFS, and what lies in its bucket, by requests of our own.

Owns: the process (free ports, a directory, ended by its id), signed requests to read and to list, copying a dataset to a directory.
Does not own: what a dataset should hold (see oracle.py), what writes to it.
"""
import atexit
import datetime
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from process import Unexpected

KEY, SECRET, BUCKET, REGION = "PINTAILTESTKEY000001", "a-secret-of-the-tests-only-0123456789", "lake", "us-east-1"
PATIENCE = 60
ROLES = ("master", "volume", "filer", "s3", "admin")


def program():
    """Returns the server's path: the one that `./dev` installs, or the system's."""
    servers = os.environ.get("PINTAIL_SERVERS") or os.path.expanduser("~/.cache/pintail/servers")
    return shutil.which("weed", path=os.pathsep.join([os.path.join(servers, "bin"), os.environ.get("PATH", "")]))


class Server:
    """Runs, or is down for a while; what it stores stays."""

    def __init__(self, directory):
        self.directory, self.child, self.connection = Path(directory), None, None
        (self.directory / "data").mkdir(parents=True)
        (self.directory / "s3.json").write_text(
            '{"identities":[{"name":"lake","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin","Read","Write","List"]}]}'
            % (KEY, SECRET))
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(12)]
        self.ports = [listener.getsockname()[1] for listener in listeners]
        for listener in listeners:
            listener.close()
        self.port = self.ports[3]
        atexit.register(self.kill)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self):
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def start(self):
        ports = [f"-{role}.port={port}" for role, port in zip(ROLES, self.ports)]
        ports += [f"-{role}.port.grpc={port}" for role, port in zip(ROLES, self.ports[5:])]
        ports += [f"-s3.port.iceberg={self.ports[10]}", f"-s3.port.lance={self.ports[11]}"]
        with open(self.directory / "weed.log", "ab") as log:
            self.child = subprocess.Popen(
                [program(), "mini", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json", f"-bucket={BUCKET}",
                 "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.autoCreateBucket=false", *ports],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if self.ask("PUT", "ready", body=b"ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Unexpected(f"SeaweedFS is not ready after {PATIENCE} s")

    def kill(self):
        self.connection = None
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def ask(self, method, key, query=None, body=b""):
        """Sends a signed request (AWS Signature Version 4). Returns the status and the body of the answer."""
        path = "/" + urllib.parse.quote(f"{BUCKET}/{key}" if key else BUCKET, safe="/-_.~")
        # The name in the path is quoted once more for the signature by nobody but S3's exception: it is signed as it is sent.
        text = "&".join(f"{urllib.parse.quote(name, safe='-_.~')}={urllib.parse.quote(str(value), safe='-_.~')}"
                        for name, value in sorted((query or {}).items()))
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload, host, scope = hashlib.sha256(body).hexdigest(), f"127.0.0.1:{self.port}", f"{now[:8]}/{REGION}/s3/aws4_request"
        signed = "host;x-amz-content-sha256;x-amz-date"
        canonical = f"{method}\n{path}\n{text}\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{now}\n\n{signed}\n{payload}"
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = b"AWS4" + SECRET.encode()
        for part in (*scope.split("/"), to_sign):
            signature = hmac.digest(signature, part.encode(), "sha256")
        headers = {"x-amz-date": now, "x-amz-content-sha256": payload,
                   "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope},SignedHeaders={signed},Signature={signature.hex()}"}
        for attempt in (1, 2):
            connection = self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request(method, path + ("?" + text if text else ""), body, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.connection = None
                if attempt == 2:
                    raise OSError(str(error)) from error

    def get(self, key):
        """Returns an object's bytes; None if there is none."""
        status, body = self.ask("GET", key)
        if status not in (200, 404):
            raise Unexpected(f"GET {key}: {status} {body[:200]}")
        return body if status == 200 else None

    def has(self, key):
        status, _ = self.ask("HEAD", key)
        return status == 200

    def keys(self, prefix):
        """Returns the names below a prefix, with their lengths."""
        return {key: int(size) for key, size in self.listed({"list-type": 2, "prefix": prefix}, "Contents", ("Key", "Size"))}

    def uploads(self, prefix):
        """Returns the ids of uploads that are not completed."""
        return {upload for upload, in self.listed({"uploads": "", "prefix": prefix}, "Upload", ("UploadId",), "key-marker")}

    def listed(self, query, element, fields, marker="continuation-token"):
        while True:
            status, body = self.ask("GET", "", query)
            if status != 200:
                raise Unexpected(f"list {query}: {status} {body[:200]}")
            root = ElementTree.fromstring(body)
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for found in root.iter(space + element):
                yield tuple(found.findtext(space + field) for field in fields)
            if root.findtext(space + "IsTruncated") != "true":
                return
            query = query | {marker: root.findtext(space + ("NextKeyMarker" if marker == "key-marker" else "NextContinuationToken"))}

    def copy(self, prefix, directory):
        """Copies a dataset to where one in a directory would lie, but for what only a bucket needs."""
        for key in self.keys(prefix + "/"):
            if key[len(prefix) + 1:].startswith(("_pintail/BEAT", "_pintail/CLOCK", "_pintail/probe/")):
                continue
            path = Path(directory) / key[len(prefix) + 1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(key))
