"""A real API server, statuses as the operator writes them, a real MinIO, and the command line in between."""

import base64
import contextlib
import io
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "controller"))

from cluster_parts import POLICY, SPEC, SYSTEM, Kubelet, Namespace, Operator, eventually, install
from status_parts import RUN, SECRET_KEY, status

from cluster import ControlPlane, MinioServer
from strop_api.result import StoreAccess
from strop_api.status import ArtifactRef
from strop_cli import app, commands, options
from strop_job.publish import Owner, publish
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.s3 import S3Store

Node = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Going:
    """A command that goes on in a thread of its own."""

    thread: threading.Thread
    out: io.StringIO
    codes: list[int]
    patch: pytest.MonkeyPatch

    def end(self, seconds: float = 30) -> int:
        """Wait for it; from then on answers go to their own places again."""
        self.thread.join(seconds)
        self.patch.undo()
        assert not self.thread.is_alive(), f"still going after {seconds} s:\n{self.out.getvalue()}"
        return self.codes[0]


def invoke(words: tuple[object, ...]) -> int:
    """The exit code of the composed command line; what it writes goes to sys.stdout and sys.stderr."""
    try:
        app.build()([str(word) for word in words], prog_name="strop", complete_var="_STROP_COMPLETE")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    return 0


class Shell:
    """Somebody's command line, with a kubeconfig and a namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace

    def __call__(self, *words: object, where: bool = True) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = invoke((*words, *(self.place if where else ())))
        return Answer(code, out.getvalue(), err.getvalue())

    def begin(self, *words: object) -> Going:
        """In the background. Its lines are seen in `out`, errors too."""
        out, codes, patch = io.StringIO(), [], pytest.MonkeyPatch()
        console = Console(file=out, highlight=False, width=200)
        for module in (options, commands):
            patch.setattr(module, "out", console)
        patch.setattr(options, "err", console)
        thread = threading.Thread(target=lambda: codes.append(invoke((*words, *self.place))), daemon=True)
        thread.start()
        return Going(thread, out, codes, patch)

    @property
    def place(self) -> tuple[str, ...]:
        return "--kubeconfig", str(self.kubeconfig), "-n", self.namespace


@pytest.fixture(scope="session")
def bare() -> Iterator[tuple[ControlPlane, Answer]]:
    """An API server, and what `strop ls` said before Strop was installed in it."""
    with ControlPlane() as plane:
        yield plane, Shell(plane.kubeconfig, "default")("ls")


@pytest.fixture(scope="session")
def operator_kubeconfig(bare: tuple[ControlPlane, Answer]) -> Path:
    kubeconfig = install(bare[0])
    Namespace(bare[0].api, SYSTEM).set_policy()
    return kubeconfig


@pytest.fixture(scope="session")
def plane(bare: tuple[ControlPlane, Answer], operator_kubeconfig: Path) -> ControlPlane:
    """The API server with the kinds of Strop, and nobody who reconciles them."""
    return bare[0]


@pytest.fixture
def namespace(plane: ControlPlane) -> Namespace:
    return Namespace(plane.api)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's owner has set stays out."""
    for name in ("KUBECONFIG", "STROP_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def strop(plane: ControlPlane, namespace: Namespace) -> Shell:
    """The command line of an admin."""
    return Shell(plane.kubeconfig, namespace.name)


@pytest.fixture
def as_user(plane: ControlPlane, namespace: Namespace) -> Callable[..., Shell]:
    """The command line of somebody with the given rights in the namespace, as `get,list:pods` with an API group after
    the resource where it has one."""

    def make(*rights: str) -> Shell:
        name = f"user-{uuid.uuid4().hex[:8]}"
        rules = []
        for right in rights:
            verbs, resource = right.split(":")
            plural, _, group = resource.partition(".")
            rules.append({"verbs": verbs.split(","), "resources": [plural], "apiGroups": [group]})
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"
        if rules:
            plane.api.post(f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
            binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
            plane.api.post(f"{rbac}/rolebindings", binding)
        return Shell(plane.kubeconfig_for_user(name), namespace.name)

    return make


@pytest.fixture
def tell(namespace: Namespace) -> Callable[..., Node]:
    """Writes the status of a resource, which is made where it is not there."""

    def write(reason: str, name: str = "digits", *, spec: Node | None = None, **changes: Any) -> Node:
        path = f"{namespace.resources}/{name}"
        if not namespace.api.exists(path):
            namespace.create(name, **(spec or {}))
        said = status(namespace.get(name), reason, **changes)
        return namespace.api.merge(f"{path}/status", {"status": said})

    return write


@dataclass(frozen=True)
class Shop:
    """A real store with a bucket of its own, as the namespace's policy names it."""

    server: MinioServer
    bucket: str
    store: S3Store

    def published(self, namespace: str, name: str = "digits", data: bytes = b"an engine") -> ArtifactRef:
        """As the worker publishes."""
        folder = Path(self.server.data).parent / uuid.uuid4().hex
        folder.mkdir()
        (folder / "model.onnx").write_bytes(data)
        gate = {"gate": "metricDrop", "verdict": "Passed", "measured": "0.5", "bound": "1.0", "message": "within"}
        said = {
            "run": {"id": RUN, "namespace": namespace, "name": name, "target": "cpu"},
            "spec": {"gates": {"metricDrop": {"maxPoints": "1.0"}}},
            "gates": [gate],
        }
        owner = Owner(namespace=namespace, name=name, uid="u")
        return publish(
            self.store, f"s3://{self.bucket}/{name}", RUN, owner, {"model.onnx": folder / "model.onnx"}, said
        )

    def put(self, key: str, data: bytes) -> str:
        uri = f"s3://{self.bucket}/{key}"
        self.store.create(uri, data)
        return uri


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer(user="strop-root", password=SECRET_KEY) as server:
        yield server


@pytest.fixture
def shop(minio: MinioServer, namespace: Namespace) -> Shop:
    """The store, the policy that names it, and the Secret that the policy names."""
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    Minio(minio.endpoint, access_key=minio.user, secret_key=minio.password, secure=False).make_bucket(bucket)
    entry = POLICY["stores"][0] | {
        "endpoint": minio.url,
        "outputPrefixes": [f"s3://{bucket}", "s3://engines"],
        "recordsUri": f"s3://{bucket}/records",
    }
    namespace.set_policy(stores=[entry])
    keys = {"accessKey": minio.user, "secretKey": minio.password}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
    secrets = f"/api/v1/namespaces/{namespace.name}/secrets"
    namespace.api.post(secrets, {"metadata": {"name": "strop-store"}, "data": data})
    access = StoreAccess(endpoint=minio.url, region="us-east-1", records_uri=f"s3://{bucket}/records/{namespace.name}")
    environment = {"AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
    return Shop(minio, bucket, S3Store(access, EnvironmentCredentials(environment)))


@pytest.fixture
def spec() -> Node:
    """What is asked for."""
    return SPEC


@pytest.fixture
def kubelet(plane: ControlPlane) -> Kubelet:
    return Kubelet(plane.api)


@pytest.fixture
def operator(operator_kubeconfig: Path, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """The real operator, for one test: it looks after the test's namespace alone."""
    flags = ("--no-lease", "--namespaces", namespace.name)
    running = Operator(operator_kubeconfig, tmp_path / "operator.log", *flags)
    running.start()
    eventually("the operator leads", lambda: running.metric("strop_leader") == 1)
    yield running
    running.close()
    print(running.log[-4000:])


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """A file with a resource."""

    def write(name: str = "digits", **changes: Any) -> Path:
        document = {
            "apiVersion": "strop.dev/v1alpha1",
            "kind": "ModelOptimization",
            "metadata": {"name": name},
            "spec": SPEC | changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return path

    return write
