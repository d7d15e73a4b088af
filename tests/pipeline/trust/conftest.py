"""Parts of the tests on trust: a store of both kinds, a published run, keys."""

import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest, StoreAccess
from strop_api.status import ArtifactRef, GateStatus, GateVerdict, Latency, MetricFigures
from strop_job.hardware import this_machine
from strop_job.judgement.gates import Judgement
from strop_job.publish import Owner, publish
from strop_job.records import MadeFrom
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.digests import bytes_digest
from strop_job.store.local import LocalStore
from strop_job.store.objects import ObjectStore
from strop_job.store.s3 import S3Store
from strop_job.trust.provenance import Sighting, provenance
from strop_job.trust.signing import PublicKey, Signer, read_public_key, read_signer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cluster import MinioServer

COSIGN = Path(__file__).with_name("cosign")
PASSWORD = b"hunter2"
OWNER = Owner(namespace="team", name="tiny", uid="uid-1")
MODEL = b"the model"
ACCESS = StoreAccess(endpoint="file://local", region="local", records_uri="s3://records/team")


def make_spec(bucket: str = "bucket", **changes: Any) -> ModelOptimizationSpec:
    document: dict[str, Any] = {
        "model": {
            "uri": f"s3://{bucket}/models/model.onnx",
            "format": "Onnx",
            "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
        },
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {"evaluation": {"uri": f"s3://{bucket}/data/eval.npz", "format": "Npz"}},
        "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}],
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {}}],
        "gates": {"metricDrop": {"maxPoints": "1.0"}},
        "output": {"uri": f"s3://{bucket}/out"},
    }
    return ModelOptimizationSpec.model_validate(document | changes)


def make_request(spec: ModelOptimizationSpec | None = None, run_id: str = "r1", owner: Owner = OWNER) -> RunRequest:
    return RunRequest(
        namespace=owner.namespace, name=owner.name, uid=owner.uid, run_id=run_id, target="cpu",
        spec=spec or make_spec(), image="registry/strop@sha256:" + "a" * 64, store=ACCESS,
    )  # fmt: skip


def make_judgement(**changes: Any) -> Judgement:
    passed = GateStatus(
        gate="metricDrop", verdict=GateVerdict.PASSED, measured="0.5", bound="1", low="0.1", high="0.9",
        message="accuracy is 0.50 points worse, within 1.00",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "gates": [passed],
        "passed": True,
        "metric": MetricFigures(name="accuracy", original="0.95", optimized="0.945", drop_points="0.5", samples=200),
        "latency": Latency(p50_microseconds=740, calls=100),
        "speedup": None,
    }
    return Judgement(**(fields | changes))


def origin(stage: str, **parameters: Any) -> MadeFrom:
    return MadeFrom(stage=stage, kind=stage, version=1, parameters=parameters, inputs={}, libraries={}, seed=0,
                    image="i", fingerprint=None)  # fmt: skip


def make_provenance(
    request: RunRequest | None = None, judgement: Judgement | None = None, version: str = "v1", reads: int = 1
) -> dict[str, Any]:
    """As the pipeline gathers it; `version` is the listing of the model's source."""
    request = request or make_request()
    uri = request.spec.model.uri
    origins = {
        "resolve-model": origin("resolve-model", uri=uri, version=version, sizeBytes=len(MODEL)),
        "int8": origin("int8", precision="int8"),
    }
    digests = {name: bytes_digest(name.encode()) for name in origins}
    seen = Sighting("2026-01-01T00:00:00Z", {"resolve-model": bytes_digest(MODEL)}, bytes_digest(b"e"), reads)
    return provenance(request, this_machine(), digests, dict(origins), judgement or make_judgement(), seen)


@dataclass(frozen=True)
class Place:
    """A store, an empty bucket in it, and a way to write behind the store's back."""

    store: ObjectStore
    bucket: str
    folder: Path
    """For local files."""
    access: StoreAccess = ACCESS
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> str:
        return f"s3://{self.bucket}/out"

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / "written"
        path.write_bytes(data)
        uri = f"s3://{self.bucket}/{name}"
        self.store.upload(uri, path)
        return uri

    def read(self, name: str) -> bytes:
        return self.store.read(f"s3://{self.bucket}/{name}", 1 << 24)

    def names(self, below: str = "out") -> set[str]:
        start = len(f"s3://{self.bucket}/{below}/")
        return {found.uri[start:] for found in self.store.list(f"s3://{self.bucket}/{below}")}

    def publish(self, run_id: str = "r1", owner: Owner = OWNER, **changes: Any) -> ArtifactRef:
        """Publish an engine and a companion; `changes` are arguments of `publish`."""
        files = {}
        for name, data in {"engine.onnx": b"engine of " + run_id.encode(), "onnx/model.onnx": b"graph"}.items():
            files[name] = self.folder / f"{run_id}-{Path(name).name}"
            files[name].write_bytes(data)
        request = make_request(make_spec(self.bucket), run_id, owner)
        named: dict[str, Any] = {"provenance": make_provenance(request), "readme": lambda _: "# card\n", **changes}
        return publish(self.store, self.output, run_id, owner, named.pop("files", files), **named)


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(LocalStore(tmp_path / "store"), "bucket", tmp_path)


@pytest.fixture
def remote(minio: MinioServer, tmp_path: Path) -> Place:
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    Minio(minio.endpoint, access_key=minio.user, secret_key=minio.password, secure=False).make_bucket(
        bucket_name=bucket
    )
    access = StoreAccess(endpoint=minio.url, region="us-east-1", records_uri=f"s3://{bucket}/records/team")
    keys = {"AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
    return Place(S3Store(access, EnvironmentCredentials(keys)), bucket, tmp_path, access, keys)


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.minio)])
def place(request: pytest.FixtureRequest) -> Place:
    """The same test body runs on a folder and on a real MinIO."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def signer() -> Signer:
    """The key that the real cosign made."""
    return read_signer(COSIGN / "cosign.key", PASSWORD)


@pytest.fixture(scope="session")
def public() -> PublicKey:
    return read_public_key(COSIGN / "cosign.pub")


@pytest.fixture
def parts() -> Any:
    """The helpers, for tests that cannot import this file."""

    class Parts:
        cosign, password, owner, model, access = COSIGN, PASSWORD, OWNER, MODEL, ACCESS
        make_spec: Callable[..., ModelOptimizationSpec] = staticmethod(make_spec)
        make_request: Callable[..., RunRequest] = staticmethod(make_request)
        make_judgement: Callable[..., Judgement] = staticmethod(make_judgement)
        make_provenance: Callable[..., dict[str, Any]] = staticmethod(make_provenance)

    return Parts
