"""What is published can be checked by whoever has the public key, and by nobody be changed in silence."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from e2e.runs import QUICK, Run, applied, sample
from e2e.shell import ROOT, Json, wait_until
from e2e.stack import SIGNING, STORAGE, Stack, decoded, forwarded, tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SMALL = {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}}


def test_a_published_run_is_verified_with_its_key_and_not_after_a_changed_byte(stack: Stack, tmp_path: Path) -> None:
    """Broken, a signed model could be swapped in the bucket and would still be served as measured."""
    key = tmp_path / "cosign.pub"
    with applied(stack.kubectl, sample("magika-static-int8", benchmark=QUICK, seed=21), "signed") as run:
        run.wait("Ready")
        key.write_text(decoded(stack.kubectl.get("-n", run.namespace, "secret", SIGNING))["cosign.pub"])
        folder = f"signed/{run.status['run']['id']}"
        names = set(stack.names("engines", f"{folder}/"))
        papers = {"provenance.json", "provenance.dsse.json", "README.md", "manifest.json"}
        assert {f"{folder}/{name}" for name in papers} <= names, names
        assert run.name in stack.read("engines", f"{folder}/README.md").decode()

        code, found = _verify(stack, "s3://engines/signed", key)
        assert (code, found["faults"], found["signature"]) == (0, [], "Verified"), found
        engine = run.status["targets"][0]["artifact"]["uri"].removeprefix("s3://engines/")
        whole = stack.read("engines", engine)
        middle = len(whole) // 2
        stack.write("engines", engine, whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        code, found = _verify(stack, "s3://engines/signed", key)
        assert code == 11
        assert [fault["problem"] for fault in found["faults"]] == ["FileChanged"]


def test_a_namespace_without_the_key_is_told_so(stack: Stack) -> None:
    """Broken, a run that can never be signed would look like a slow node."""
    document = sample("magika-static-int8", benchmark=QUICK, seed=22, worker=SMALL)
    with tenant(stack, "team-keyless", signing=False) as name, applied(stack.kubectl, document, "keyless", name) as run:
        wait_until("the reason", lambda: SIGNING in run.condition("Ready").get("message", ""), 120)
        assert _not_ready(run)


def _not_ready(run: Run) -> bool:
    return run.condition("Ready")["status"] == "False" and "targets" not in run.status


def _verify(stack: Stack, uri: str, key: Path) -> tuple[int, Json]:
    """`strop verify` on this machine, through a forwarded port: exit code and what it says."""
    with forwarded(stack.kubectl, STORAGE, "svc/minio", 9000) as port:
        store = {
            "STROP_S3_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": stack.root.user,
            "AWS_SECRET_ACCESS_KEY": stack.root.password,
        }
        words = ["-m", "strop_job.cli", "verify", uri, "--store", "s3", "--key", str(key), "-o", "json"]
        done = subprocess.run(
            [str(ROOT / ".venv/bin/python"), *words],
            capture_output=True, text=True, check=False, timeout=120, cwd=ROOT, env={**os.environ, **store},
        )  # fmt: skip
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.fail(f"strop verify ended with {done.returncode}: {done.stdout}{done.stderr}")
