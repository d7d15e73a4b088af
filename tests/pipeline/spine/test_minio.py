"""Whole runs against a real MinIO server: `strop run` with the environment's keys or a policy, and the pod's entry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from minio import Minio

from strop_api.identity import run_id, spec_hash
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Result, RunRequest, StoreAccess
from strop_job.publish import current
from strop_job.store.credentials import FolderCredentials
from strop_job.store.s3 import S3Store

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cluster import MinioServer

pytestmark = pytest.mark.minio


@pytest.fixture(scope="module")
def minio(prepared):
    """A server with the samples' buckets."""
    with MinioServer() as server:
        keys = {"AWS_ACCESS_KEY_ID": server.user, "AWS_SECRET_ACCESS_KEY": server.password}
        script = Path(__file__).parents[3] / "crds" / "samples" / "prepare.py"
        command = [sys.executable, str(script), "--store", str(prepared), "--s3", server.url]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | keys)
        yield server


@pytest.fixture
def keys(minio, tmp_path):
    """The folder that a pod mounts from the store's Secret."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "accessKey").write_text(minio.user)
    (folder / "secretKey").write_text(minio.password)
    return folder


def document(spine, name):
    """The magika sample, measured briefly and judged leniently: here the way counts, not the figures."""
    found = yaml.safe_load((spine.samples / "magika-static-int8.yaml").read_text())
    found["metadata"]["name"] = name
    spec = found["spec"]
    spec["data"]["evaluation"]["samples"] = 64
    spec["gates"], spec["benchmark"] = {"metricDrop": {"maxPoints": "20"}}, {"calls": 50, "maxSeconds": 20}
    spec["output"]["uri"] = f"s3://engines/{name}"
    return found


def access(minio):
    return StoreAccess(endpoint=minio.url, region="us-east-1", records_uri="s3://strop-records/default")


def published(minio, keys, name):
    """The pointer, whose artifact lies in the bucket with the digest it says."""
    store = S3Store(access(minio), FolderCredentials(keys))
    pointer = current(store, f"s3://engines/{name}")
    assert store.digest(pointer.artifact.uri) == pointer.artifact.digest
    return pointer


def test_a_run_with_the_environments_keys_publishes_and_a_policy_leads_to_the_same_store(minio, keys, spine, tmp_path):
    """The command line would work on folders alone."""
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document(spine, "by-hand")))
    secrets = {"AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
    words = ("run", path, "--store", "s3", "--scratch", tmp_path / "scratch")
    first = spine.strop(*words, STROP_S3_ENDPOINT=minio.url, **secrets)
    assert first.returncode == 0, first.stdout + first.stderr
    pointer = published(minio, keys, "by-hand")
    assert (str(pointer.owner), pointer.artifact.uri in first.stdout) == ("default/by-hand", True)
    policy = yaml.safe_load((spine.samples / "policy.yaml").read_text())
    policy["spec"]["stores"][0]["endpoint"] = minio.url
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    second = spine.strop(*words, "--policy", tmp_path / "policy.yaml", **secrets)
    assert second.returncode == 0, second.stdout + second.stderr
    assert all(word not in second.stdout for word in ("+ verify", "+ benchmark"))
    assert published(minio, keys, "by-hand") == pointer


def test_a_store_that_the_policy_does_not_have_is_named(spine, tmp_path):
    """A spec for another store would silently go to the first."""
    wanted = document(spine, "elsewhere")
    wanted["spec"]["storeRef"] = {"name": "other"}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(wanted))
    ended = spine.strop("run", path, "--store", "s3", "--policy", spine.samples / "policy.yaml")
    assert ended.returncode == 11
    assert "spec.storeRef.name" in ended.stderr


def test_a_pods_run_with_mounted_keys_publishes_and_leaves_no_key_behind(minio, keys, spine, tmp_path):
    """The pod's entry would be proven on folders alone."""
    spec = ModelOptimizationSpec.model_validate(document(spine, "by-pod")["spec"])
    asked = RunRequest(
        namespace="default", name="by-pod", uid="u-1", run_id=run_id("u-1", spec_hash(spec)), target="cpu", spec=spec,
        image="strop@test", store=access(minio),
    )  # fmt: skip
    request, log = tmp_path / "request.json", tmp_path / "termination"
    request.write_text(asked.model_dump_json(by_alias=True))
    flags = {"request": request, "termination-log": log, "port": spine.free_port(), "scratch": tmp_path / "scratch"}
    flags["credentials"] = keys
    ended = spine.strop("worker", *(word for name, value in flags.items() for word in (f"--{name}", value)))
    result = Result.model_validate_json(log.read_bytes())
    assert (ended.returncode, result.outcome) == (0, "Published"), result.message
    pointer = published(minio, keys, "by-pod")
    assert (pointer.artifact, pointer.run_id) == (result.target.artifact, asked.run_id)
    client = Minio(minio.endpoint, access_key=minio.user, secret_key=minio.password, secure=False)
    left = [
        o for bucket in ("engines", "strop-records") for o in client.list_objects(bucket_name=bucket, recursive=True)
    ]
    texts = [o for o in left if o.object_name.endswith((".json", ".html"))]
    assert texts
    for found in texts:
        answer = client.get_object(bucket_name=found.bucket_name, object_name=found.object_name)
        assert minio.password.encode() not in answer.read()
        answer.close()
        answer.release_conn()
    assert minio.password not in ended.stdout + ended.stderr + log.read_text()
