"""ModelOptimizations under test: apply a sample, watch what its status says, wait for its end."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from e2e.shell import ROOT, Json, Kubectl, StackError, wait_until
from e2e.stack import TEAM

QUICK = {"calls": 50}
"""`spec.benchmark` where speed is not what a test is about."""


class Run:
    """One ModelOptimization, in the team's namespace where none is named."""

    def __init__(self, kubectl: Kubectl, name: str, namespace: str = TEAM) -> None:
        self.kubectl, self.name, self.namespace = kubectl, name, namespace

    def get(self) -> Json:
        """The resource."""
        return self.kubectl.get("-n", self.namespace, "modeloptimization", self.name)

    @property
    def status(self) -> Json:
        """Its status."""
        return dict(self.get().get("status", {}))

    def condition(self, kind: str) -> Json:
        """One condition; {} when it is not there."""
        return next((c for c in self.status.get("conditions", []) if c["type"] == kind), {})

    def wait(self, condition: str, seconds: float = 600) -> None:
        """Until a condition is true; tells what the status and the log say when the run ends otherwise, or does not."""

        def ended() -> bool:
            conditions = self.status.get("conditions", [])
            return any(c["type"] in ("Ready", "Stalled") and c["status"] == "True" for c in conditions)

        with suppress(StackError):
            wait_until(f"the end of {self.name}", ended, seconds, every=0.5)
        if self.condition(condition).get("status") != "True":
            logs = self.kubectl(
                "-n", self.namespace, "logs", "-l", f"strop.dev/optimization={self.name}", "--tail=40", check=False
            )
            raise StackError(f"{self.name} is not {condition}: {json.dumps(self.status, indent=1)}\nlog: {logs}")

    def wait_for_stage(self, *stages: str, seconds: float = 300) -> str:
        """Until the status tells that one of these stages runs; which one."""

        def look() -> str:
            stage = str(self.status.get("progress", {}).get("stage", ""))
            return stage if stage in stages else ""

        return wait_until(f"stage {' or '.join(stages)} of {self.name}", look, seconds)

    def jobs(self) -> list[Json]:
        """Its Jobs."""
        owned = self.kubectl.get("-n", self.namespace, "jobs").get("items", [])
        return [job for job in owned if any(o["uid"] == self.get()["metadata"]["uid"] for o in _owners(job))]

    def pods(self) -> list[Json]:
        """The pods of its Jobs, oldest first."""
        jobs = {job["metadata"]["uid"] for job in self.jobs()}
        pods = self.kubectl.get("-n", self.namespace, "pods").get("items", [])
        own = [pod for pod in pods if any(o["uid"] in jobs for o in _owners(pod))]
        return sorted(own, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def events(self) -> list[str]:
        """Reasons of its Events, oldest first."""
        about = f"--field-selector=involvedObject.name={self.name}"
        items = self.kubectl.get("-n", self.namespace, "events", about).get("items", [])
        return [str(event["reason"]) for event in sorted(items, key=lambda e: str(e["metadata"]["creationTimestamp"]))]

    def patch(self, **spec: object) -> None:
        """Change members of its spec."""
        words = ("patch", "modeloptimization", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))
        self.kubectl("-n", self.namespace, *words)

    def delete(self) -> None:
        """Delete it and wait until its Jobs and pods are gone."""
        self.kubectl(
            "-n", self.namespace, "delete", "modeloptimization", self.name, "--wait=true", "--ignore-not-found"
        )


def sample(name: str, **changes: object) -> Json:
    """A sample's document; `changes` replace members of its spec."""
    documents = yaml.safe_load_all((ROOT / "crds/samples" / f"{name}.yaml").read_text())
    document: Json = next(d for d in documents if d["kind"] == "ModelOptimization")
    document["spec"].update(changes)
    return document


@contextmanager
def applied(kubectl: Kubectl, document: Json, name: str, namespace: str = TEAM) -> Iterator[Run]:
    """Apply it under a name, with an output folder of its own, and delete it in the end."""
    document["metadata"]["name"] = name
    document["spec"]["output"]["uri"] = f"s3://engines/{name}"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(document))
    run = Run(kubectl, name, namespace)
    try:
        yield run
    finally:
        run.delete()


class Watch:
    """Every state of one resource, as `kubectl get --watch` sees it."""

    def __init__(self, kubectl: Kubectl, name: str, log: Path) -> None:
        self._log = log
        words = [str(kubectl.binary), "--kubeconfig", str(kubectl.kubeconfig), "-n", TEAM]
        words += ["get", "modeloptimization", name, "--watch", "-o", "json"]
        with log.open("w") as out:
            self._process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)

    def stop(self, last: Json) -> list[Json]:
        """End the watch once it has told of the state `last`; the states, oldest first."""
        version = f'"resourceVersion": "{last["metadata"]["resourceVersion"]}"'
        wait_until("the watch to tell of it", lambda: version in self._log.read_text(), 20)
        self._process.terminate()
        self._process.wait(10)
        text, decoder, states = self._log.read_text(), json.JSONDecoder(), []
        at = 0
        while at < len(text.rstrip()):
            try:
                state, end = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                break  # the last one was cut off
            states.append(state)
            at = end + len(text[end:]) - len(text[end:].lstrip())
        return states


def _owners(item: Json) -> list[Json]:
    return list(item["metadata"].get("ownerReferences", []))
