"""Pods, nodes and the operator may die at any moment: nothing is lost and nothing is done twice."""

import pytest

from e2e.actions import evict, kill_operator
from e2e.runs import QUICK, applied, sample
from e2e.shell import Json, wait_until
from e2e.stack import TEAM, Stack, tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
LATE = ("int8", "compile", "compile-original", "verify", "benchmark")


def test_an_evicted_pod_is_followed_by_one_that_resumes_from_the_records(stack: Stack) -> None:
    """Broken, a drained node would cost the whole run again."""
    document = sample("minilm-int8", seed=1)
    with applied(stack.kubectl, document, "evicted") as run:
        run.wait_for_stage(*LATE)
        first = run.pods()[0]["metadata"]["name"]
        evict(stack, run, first)
        wait_until("a second pod", lambda: [p for p in run.pods() if p["metadata"]["name"] != first], 120)
        run.wait("Ready")
        stages = {stage["name"]: stage for stage in run.status["stages"]}
        assert stages["resolve-model"].get("cached"), stages
        assert stages["export"].get("cached"), stages
        assert run.status["run"]["attempt"] == 1, "an eviction is not an attempt of the operator's"


def test_an_operator_killed_in_the_middle_starts_nothing_twice(stack: Stack) -> None:
    """Broken, a crash of the operator would run two pods on the same GPU budget."""
    with applied(stack.kubectl, sample("magika-static-int8", benchmark=QUICK, seed=2), "orphaned") as run:
        wait_until("the worker's pod", run.pods, 60)
        jobs = [job["metadata"]["uid"] for job in run.jobs()]
        kill_operator(stack)
        run.wait("Ready")
        assert len(jobs) == 1
        assert all(job["metadata"]["uid"] in jobs for job in run.jobs())
        assert run.status["run"]["attempt"] == 1


def test_a_worker_out_of_memory_is_named_with_its_stage_and_limit(stack: Stack) -> None:
    """Broken, a user would see a bare exit code 137."""
    document = sample("minilm-int8", benchmark=QUICK, seed=3)
    # One layer alone is larger than the limit: the kernel has nothing to page out and kills at once.
    sizes = {"hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 12}
    document["spec"]["model"]["architecture"]["arguments"] = sizes
    document["spec"]["worker"] = {
        "resources": {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"memory": "640Mi"}}
    }
    with applied(stack.kubectl, document, "hungry") as run:
        run.wait("Stalled", 300)
        stalled = run.condition("Stalled")
        assert stalled["reason"] == "OutOfMemory"
        assert "spec.worker.resources.limits.memory" in stalled["message"]
        assert "export" in stalled["message"], "the stage is named"
        assert "640" in stalled["message"]


def test_a_suspended_run_leaves_no_pod_and_resumes(stack: Stack) -> None:
    """Broken, pausing would either keep the GPU or lose the work."""
    with applied(stack.kubectl, sample("minilm-int8", seed=4), "paused") as run:
        run.wait_for_stage("export", *LATE)
        run.patch(suspend=True)
        wait_until(
            "no pod is left", lambda: not run.pods() and run.condition("Ready").get("reason") == "Suspended", 120
        )
        run.patch(suspend=False)
        run.wait("Ready")
        assert {s["name"]: s for s in run.status["stages"]}["resolve-model"].get("cached")


def test_a_job_deleted_by_hand_comes_back(stack: Stack) -> None:
    """Broken, a run would hang for ever without its Job."""
    with applied(stack.kubectl, sample("magika-static-int8", benchmark=QUICK, seed=5), "deleted") as run:
        job = wait_until("the Job", run.jobs, 60)[0]["metadata"]
        stack.kubectl("-n", TEAM, "delete", "job", job["name"])
        wait_until("another Job", lambda: [j for j in run.jobs() if j["metadata"]["uid"] != job["uid"]], 120)
        run.wait("Ready")


def test_an_image_that_is_not_there_is_told(stack: Stack) -> None:
    """Broken, a typing error in the policy would look like a slow node."""
    images = stack.policy()["images"]
    images[0]["ref"] = images[0]["ref"].partition("@")[0] + "@sha256:" + "0" * 64
    document = sample("magika-static-int8", benchmark=QUICK, seed=6)
    with (
        tenant(stack, "team-imageless", images=images) as name,
        applied(stack.kubectl, document, "no-image", name) as run,
    ):
        wait_until("the reason", lambda: run.condition("Reconciling").get("reason") == "ImagePullFailed", 90)


def test_a_run_beyond_its_deadline_ends_and_leaves_no_pod(stack: Stack) -> None:
    """Broken, a run that never ends would hold its GPU for ever."""
    with applied(
        stack.kubectl, sample("minilm-int8", benchmark=QUICK, seed=7, activeDeadlineSeconds=15), "late"
    ) as run:
        run.wait("Stalled", 180)
        assert run.condition("Stalled")["reason"] == "DeadlineExceeded"
        assert "artifact" not in str(run.status.get("targets", []))
        wait_until("no pod is left at work", lambda: all(_over(pod) for pod in run.pods()), 90)
        assert stack.names("engines", "late/") == []


def test_a_full_scratch_is_told_as_that(stack: Stack) -> None:
    """Broken, a user would see an eviction and look for a broken node."""
    long = {"calls": 1_000_000, "maxSeconds": 600}  # the kubelet measures a volume once a minute
    document = sample("minilm-int8", benchmark=long, seed=8, retries=0)
    document["spec"]["worker"] = document["spec"].get("worker", {}) | {"scratch": "16Mi"}
    with applied(stack.kubectl, document, "full") as run:
        run.wait("Stalled", 300)
        assert run.condition("Stalled")["reason"] == "DiskFull"
        assert "scratch" in run.condition("Stalled")["message"], run.condition("Stalled")


def _over(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Failed", "Succeeded")
