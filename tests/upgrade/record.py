"""Records what a release leaves in a cluster and in a store, for later releases to read. Run once, at release time.

    python tests/upgrade/record.py            writes tests/upgrade/<version>/ anew

A real API server with the chart installed, the real operator and real workers; only the node is played. Kept are the
chart (it holds the CRDs), every resource as the API server returns it, the Job and pod of a run that is still going,
and, of one published run, what lies in the store beside the engine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "controller"))

from cluster_parts import SYSTEM, Kubelet, Namespace, Operator, eventually

from cluster import ControlPlane, binaries
from strop_api.identity import RERUN_ANNOTATION
from strop_api.result import REQUEST_ANNOTATION

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SAMPLES = ROOT / "crds" / "samples"
CHART = ROOT / "charts" / "strop"
TEAM = "team"
RELEASE = "strop-operator"
WORKED = ("magika-as-is", "magika-naive-int8", "magika-static-int8", "minilm-int8", "magika-absent")
"""Resources whose runs end: published, a missed gate, published, published, a model that is not there."""
UNFINISHED, SUSPENDED, KEPT = "minilm-fp16", "minilm-suspended", "magika-static-int8"
STROP = "import sys; from strop_job.cli import main; sys.exit(main())"
STORE_LIMIT_BYTES = 64 << 10
Document = dict[str, Any]


def sample(name: str) -> Document:
    """A document of crds/samples."""
    document: Document = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())
    return document


def resources() -> list[Document]:
    """The samples, one of them with a re-run token; a suspended one, and one whose model is not there."""
    found = [sample(name) for name in (*WORKED[:-1], UNFINISHED)]
    found[0]["metadata"]["annotations"] = {RERUN_ANNOTATION: "second"}
    suspended, absent = sample("minilm-int8"), sample("magika-as-is")
    suspended["metadata"]["name"], suspended["spec"]["suspend"] = SUSPENDED, True
    absent["metadata"]["name"], absent["spec"]["model"]["uri"] = WORKED[-1], "s3://models/magika/absent.onnx"
    absent["spec"] |= {"output": {"uri": "s3://engines/absent"}, "ttlSecondsAfterFinished": 3600}
    return [*found, suspended, absent]


def install(plane: ControlPlane) -> None:
    """The chart, then the sample's policy for every namespace: it can be made once its CRD is served."""
    helm = [str(binaries.find("helm")), "--kubeconfig", str(plane.kubeconfig), "-n", SYSTEM]
    command = [*helm, "upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "-f", "-"]
    for values in ({}, {"policy": sample("policy")["spec"]}):
        subprocess.run(command, input=json.dumps(values), text=True, check=True, stdout=subprocess.DEVNULL)
        eventually("the CRDs", lambda: plane.api.exists("/apis/strop.dev/v1alpha1/optimizationpolicies"))


class Node:
    """Plays a node: the pod's container is a real worker here, on a folder that stands for the store."""

    def __init__(self, namespace: Namespace, store: Path, scratch: Path) -> None:
        self._namespace, self._store, self._scratch = namespace, store, scratch
        self._kubelet = Kubelet(namespace.api)

    def pod(self, name: str) -> Document:
        """Wait for the pod of a resource's Job."""

        def ask() -> Document | None:
            found = self._namespace.pod_list()
            return next((p for p in found if p["metadata"]["labels"]["strop.dev/optimization"] == name), None)

        return eventually(f"the pod of {name}", ask, 60)

    def takes(self, name: str) -> Document:
        """The pod is bound and runs."""
        pod = self.pod(name)
        self._kubelet.bind(pod)
        self._kubelet.runs(pod)
        self._namespace.reason("Running", name, 60)
        return pod

    def carries_out(self, name: str) -> None:
        """Run the worker to its end, and tell how it ended."""
        pod = self.takes(name)
        request, said = self._scratch / f"{name}.json", self._scratch / f"{name}.said"
        request.write_text(pod["metadata"]["annotations"][REQUEST_ANNOTATION])
        flags = [f"--request={request}", f"--local-store={self._store}", f"--scratch={self._scratch / 'work'}"]
        command = [sys.executable, "-c", STROP, "worker", *flags, f"--termination-log={said}", "--port=0"]
        code = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"}).returncode
        self._kubelet.ends(pod, code, said.read_text())
        eventually(f"the end of {name}", lambda: "finishedAt" in self._namespace.get(name)["status"]["run"], 60)


def write(path: Path, document: object) -> None:
    """As sorted JSON, for readable differences."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def stored(document: Document, kind: str) -> Document:
    """As the API server has it, without the book-keeping of who wrote which field."""
    document["metadata"].pop("managedFields", None)
    return {"apiVersion": document.get("apiVersion", ""), "kind": kind} | document


def keep_objects(namespace: Namespace, folder: Path) -> None:
    """Every resource, the policy, and the Job and pod of the run that is not finished."""
    for item in namespace.api.get(namespace.resources)["items"]:
        write(folder / f"{item['metadata']['name']}.json", stored(item, "ModelOptimization"))
    policies = namespace.api.get(Namespace(namespace.api, SYSTEM).policies)["items"]
    write(folder / "policy.json", stored(policies[0], "OptimizationPolicy"))
    for kind, items in (("Job", namespace.job_list()), ("Pod", namespace.pod_list())):
        for item in items:
            if item["metadata"]["labels"]["strop.dev/optimization"] == UNFINISHED:
                write(folder / "running" / f"{kind.lower()}.json", stored(item, kind))


def keep_store(store: Path, run: str, folder: Path) -> None:
    """What is JSON of one published run, below the same addresses; the blobs stay behind."""
    records = store / "strop-records" / TEAM
    used = json.loads((records / "runs" / f"{run}.json").read_text())["records"]
    wanted = [records / "runs" / f"{run}.json", *(records / "records" / f"{key}.json" for key in used)]
    wanted += (records / "reports" / run).glob("*.json")
    wanted += (store / "engines" / KEPT).rglob("*.json")
    for path in wanted:
        if path.stat().st_size > STORE_LIMIT_BYTES:
            raise SystemExit(f"{path} is too large to be kept here")
        copy = folder / path.relative_to(store)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def record(plane: ControlPlane, scratch: Path, folder: Path) -> None:
    """Let every resource come to its end, and keep what there is then."""
    store = scratch / "store"
    subprocess.run([sys.executable, SAMPLES / "prepare.py", "--store", store], check=True)
    install(plane)
    operator = Operator(plane.kubeconfig_for_service_account(SYSTEM, RELEASE), scratch / "log", "--no-lease")
    operator.start()
    try:
        namespace = Namespace(plane.api, TEAM)
        namespace.account()
        for document in resources():
            plane.api.post(namespace.resources + "?fieldValidation=Strict", document)
        node = Node(namespace, store, scratch)
        for name in WORKED:
            node.carries_out(name)
        node.takes(UNFINISHED)
        namespace.reason("Suspended", SUSPENDED)
        keep_objects(namespace, folder / "objects")
        keep_store(store, namespace.get(KEPT)["status"]["run"]["id"], folder / "store")
    finally:
        operator.close()
        print(operator.log, file=sys.stderr)


def main() -> None:
    """Writes the folder of the chart's version, which is the release's."""
    folder = HERE / str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])
    with tempfile.TemporaryDirectory(prefix="strop-record-") as scratch, ControlPlane() as plane:
        made = Path(scratch) / "made"
        record(plane, Path(scratch), made)
        shutil.copytree(CHART, made / "chart")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    print(f"recorded {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
