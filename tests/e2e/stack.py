"""The stack on a cluster: MinIO with its users, the operator by its chart, the policy, a namespace, the samples."""

import base64
import io
import json
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider

from e2e.images import OPERATOR, WORKER
from e2e.platforms import Platform
from e2e.shell import ROOT, Json, Kubectl, run, say, wait_until

SYSTEM, STORAGE, TEAM = "strop-system", "minio", "team-a"
UNREACHABLE = "node.kubernetes.io/unreachable"
BUCKETS = ("models", "data", "engines", "strop-records")
RELEASE = "strop"
SIGNING = "strop-signing"
"""The Secret with the key that signs, in every namespace that has one."""


@dataclass(frozen=True)
class Credentials:
    """A MinIO user; made anew for every cluster."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Stack:
    """What the tests and the tour work with."""

    platform: Platform
    root: Credentials
    worker: Credentials

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as admin."""
        return self.platform.kubectl

    @contextmanager
    def store(self) -> Iterator[Minio]:
        """MinIO as root, through a port that kubectl forwards."""
        with forwarded(self.kubectl, STORAGE, "svc/minio", 9000) as port:
            yield Minio(
                endpoint=f"127.0.0.1:{port}", access_key=self.root.user, secret_key=self.root.password, secure=False
            )

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of the objects in a bucket, those of its folders too."""
        with self.store() as store:
            found = store.list_objects(bucket_name=bucket, prefix=prefix, recursive=True)
            return [str(item.object_name) for item in found]

    def read(self, bucket: str, name: str) -> bytes:
        """An object's content."""
        with self.store() as store:
            answer = store.get_object(bucket_name=bucket, object_name=name)
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

    def write(self, bucket: str, name: str, data: bytes) -> None:
        """Put an object there, in place of what there was."""
        with self.store() as store:
            store.put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(data), length=len(data))

    def policy(self, **changes: Any) -> Json:
        """The spec of the policy that holds everywhere; `changes` replace members of it."""
        found: Json = self.kubectl.get("-n", SYSTEM, "optimizationpolicy", "default")["spec"]
        return found | changes


def bring_up(platform: Platform) -> Stack:
    """Everything, until the operator is ready. Raises StackError."""
    say("images")
    operator, worker = platform.image(OPERATOR), platform.image(WORKER)
    stack = Stack(platform, _user(platform.kubectl, "root"), _user(platform.kubectl, "worker"))
    _minio(stack)
    _chart(stack, operator, worker)
    add_namespace(stack, TEAM)
    say("stack is up")
    return stack


def _user(kubectl: Kubectl, name: str) -> Credentials:
    """A MinIO user with a password of its own; that of a stack which is up already stays."""
    if held := decoded(kubectl.get("-n", STORAGE, "secret", f"minio-{name}")):
        return Credentials(held["user"], held["password"])
    return Credentials(f"strop-{name}", secrets.token_hex(16))


def decoded(secret: Json) -> dict[str, str]:
    """What a Secret holds; nothing when there is none."""
    return {name: base64.b64decode(value).decode() for name, value in secret.get("data", {}).items()}


def _minio(stack: Stack) -> None:
    say("MinIO")
    documents = list(yaml.safe_load_all((Path(__file__).parent / "manifests/minio.yaml").read_text()))
    for name, user in {"root": stack.root, "worker": stack.worker}.items():
        documents.insert(1, _secret(f"minio-{name}", STORAGE, {"user": user.user, "password": user.password}))
    next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = (
        stack.platform.minio()
    )
    stack.kubectl.apply(*documents)
    stack.kubectl("-n", STORAGE, "rollout", "status", "deployment/minio", "--timeout=120s")
    with forwarded(stack.kubectl, STORAGE, "svc/minio", 9000) as port:
        _worker_user(stack, port)
    with stack.store() as store, tempfile.TemporaryDirectory() as folder:
        for bucket in BUCKETS:
            if not store.bucket_exists(bucket_name=bucket):
                store.make_bucket(bucket_name=bucket)
        say("samples' inputs")
        run(ROOT / ".venv/bin/python", "crds/samples/prepare.py", "--store", folder)
        for path in sorted(p for p in Path(folder).glob("[!.]*/**/*") if p.is_file()):
            bucket, *rest = path.relative_to(folder).parts
            store.fput_object(bucket_name=bucket, object_name="/".join(rest), file_path=str(path))


def _worker_user(stack: Stack, port: int) -> None:
    """The worker reads models and data, and writes engines and records: no more."""
    admin = MinioAdmin(
        endpoint=f"127.0.0.1:{port}", credentials=StaticProvider(stack.root.user, stack.root.password), secure=False
    )
    reading = {
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::models/*", "arn:aws:s3:::data/*"],
    }
    writing = {
        "Effect": "Allow",
        "Action": [
            "s3:GetObject",
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
        ],
        "Resource": ["arn:aws:s3:::engines/*", "arn:aws:s3:::strop-records/*"],
    }
    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": [f"arn:aws:s3:::{b}" for b in BUCKETS],
    }
    if stack.worker.user in json.loads(admin.user_list()):
        return
    admin.policy_add("worker", policy={"Version": "2012-10-17", "Statement": [reading, writing, listing]})
    admin.user_add(stack.worker.user, stack.worker.password)
    admin.attach_policy(["worker"], user=stack.worker.user)


def _chart(stack: Stack, operator: str, worker: str) -> None:
    say("helm install")
    repository, _, digest = operator.partition("@")
    values = {
        "image": {"repository": repository.rpartition(":")[0] or repository, "digest": digest},
        "policy": policy(worker),
    }
    stack.kubectl.apply(_namespace(SYSTEM))
    helm = (stack.platform.helm, "--kubeconfig", stack.kubectl.kubeconfig, "-n", SYSTEM)
    run(
        *helm,
        "upgrade",
        "--install",
        RELEASE,
        "charts/strop",
        "-f",
        "-",
        "--wait",
        "--timeout",
        "180s",
        stdin=json.dumps(values),
    )


def policy(worker: str) -> Json:
    """The sample's policy, with this cluster's store and worker image."""
    spec: Json = yaml.safe_load((ROOT / "crds/samples/policy.yaml").read_text())["spec"]
    spec["stores"][0]["endpoint"] = f"http://minio.{STORAGE}.svc:9000"
    for image in spec["images"]:  # one image that holds what both do
        image["ref"] = worker
    spec["signing"] = {"secretName": SIGNING}
    spec["allow"] = {"tolerationKeys": [UNREACHABLE]}
    return spec


def add_namespace(stack: Stack, name: str, *, signing: bool = True) -> None:
    """A user's namespace: PodSecurity restricted, and the Secrets that the policy names."""
    secret = {"accessKey": stack.worker.user, "secretKey": stack.worker.password}
    stack.kubectl.apply(_namespace(name), _secret("strop-store", name, secret))
    if signing and not stack.kubectl.get("-n", name, "secret", SIGNING):
        stack.kubectl.apply(_secret(SIGNING, name, _key_pair()))


def _key_pair() -> dict[str, str]:
    """A Secret as `cosign generate-key-pair` makes it, but not encrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"cosign.key": private.decode(), "cosign.pub": public.decode()}


@contextmanager
def tenant(stack: Stack, name: str, *, signing: bool = True, **changes: Any) -> Iterator[str]:
    """A namespace with a policy of its own; `changes` replace members of the common one. It goes in the end."""
    add_namespace(stack, name, signing=signing)
    metadata = {"name": "default", "namespace": name}
    own = {"apiVersion": "strop.dev/v1alpha1", "kind": "OptimizationPolicy", "metadata": metadata}
    stack.kubectl.apply({**own, "spec": stack.policy(**changes)})
    try:
        yield name
    finally:
        stack.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=120s")


def _namespace(name: str) -> Json:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _secret(name: str, namespace: str, values: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": values,
    }


@contextmanager
def forwarded(kubectl: Kubectl, namespace: str, what: str, port: int) -> Iterator[int]:
    """A local port that leads to a Service's or pod's port."""
    words = [
        str(kubectl.binary),
        "--kubeconfig",
        str(kubectl.kubeconfig),
        "-n",
        namespace,
        "port-forward",
        what,
        f":{port}",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 9000
        local = int(line.split("127.0.0.1:")[1].split(" ")[0])
        wait_until("the forwarded port", lambda: _answers(local), 10)
        yield local
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True
