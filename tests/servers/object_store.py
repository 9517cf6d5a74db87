"""An object store for tests: moto, which speaks S3 and keeps its objects in memory."""

import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from common.runtime.setting_groups.objects import ObjectStoreSettings
from tests.servers.process import Process, free_ports

START_S = 60.0
REGION = "us-east-1"
# of a request that makes a bucket: moto reads the region from it, and checks it only if it is told to
_SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, with a prefix in it."""

    root: str
    endpoint: str
    key: str = "a-key"
    secret: str = "a secret"

    @property
    def name(self) -> str:
        return self.root.split("/")[2]

    @property
    def prefix(self) -> str:
        return self.root.split("/", 3)[3]

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a service, as environment variables."""
        return {
            "MEDIA_ROOT": self.root,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def settings(self, **more: object) -> ObjectStoreSettings:
        own = {name.lower(): value for name, value in self.environment.items() if name != "MEDIA_ROOT"}
        return ObjectStoreSettings.model_validate({**own, **more})


class ObjectStore:
    """A running server; made by `open_server`."""

    def __init__(self, folder: Path, port: int, process: Process) -> None:
        self._folder = folder
        self._process = process
        self._buckets = 0
        self.endpoint = f"http://127.0.0.1:{port}"

    def fresh_bucket(self) -> Bucket:
        self._buckets += 1
        name = f"pictures-{self._buckets}"
        self.ask("PUT", f"/{name}")
        return Bucket(f"s3://{name}/some/prefix", self.endpoint)

    def remove_bucket(self, bucket: Bucket) -> None:
        self.ask("DELETE", f"/{bucket.name}")

    def make_key(self, *rights: str) -> tuple[str, str]:
        """Let the server check keys from now on; returns a key with these rights on all buckets."""
        self.ask("POST", "/moto-api/reset-auth", body="100")
        user = f"user-{time.monotonic_ns()}"
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": rights, "Resource": "*"}]}
        self._iam(Action="CreateUser", UserName=user)
        self._iam(Action="PutUserPolicy", UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
        made = self._iam(Action="CreateAccessKey", UserName=user)
        self.ask("POST", "/moto-api/reset-auth", body="0")
        return tuple(made.split(f"<{each}>")[1].split("<")[0] for each in ("AccessKeyId", "SecretAccessKey"))  # type: ignore[return-value]

    def check_no_keys(self) -> None:
        self.ask("POST", "/moto-api/reset-auth", body="inf")

    def _iam(self, **form: str) -> str:
        body = urllib.parse.urlencode({**form, "Version": "2010-05-08"})
        return self.ask("POST", "/", body=body, signed=_SIGNED.replace("/s3/", "/iam/"))

    def ask(self, method: str, path: str, *, body: str = "", signed: str = _SIGNED) -> str:
        form = "application/x-www-form-urlencoded" if path == "/" else "text/plain"
        headers = {"Authorization": signed, "Content-Type": form}
        request = urllib.request.Request(self.endpoint + path, body.encode(), headers, method=method)
        with _NO_PROXY.open(request, timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    def close(self) -> None:
        self._process.stop(limit_s=2)
        shutil.rmtree(self._folder, ignore_errors=True)


def open_server() -> ObjectStore:
    folder = Path(tempfile.mkdtemp(prefix="darkroom-objects-"))
    (port,) = free_ports(1)
    log = folder / "log"
    process = Process(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        folder=folder,
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "inf"},
        log=log,
    )
    store = ObjectStore(folder, port, process)
    deadline = time.monotonic() + START_S
    while True:
        try:
            store.ask("GET", "/moto-api/data.json")
        except OSError as error:
            if time.monotonic() > deadline or not process.is_running:
                text = log.read_text()[-2000:]
                store.close()
                raise RuntimeError(f"moto does not start:\n{text}") from error
            time.sleep(0.05)
        else:
            return store
