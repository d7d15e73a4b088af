"""The KServe manifest, judged by a real API server with KServe's own definition, and by KServe's list of formats."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from cluster import ControlPlane
from cluster.api import Api, ApiError
from cluster.shell import wait_until
from strop_job.stages import Artifact, ArtifactKind

KSERVE = Path(__file__).with_name("kserve")
SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
STRICT = "?fieldValidation=Strict&dryRun=All"
FLAG = "--backend-config=tensorrt,version-compatible=true"
DEVICE = {"resource": "nvidia.com/gpu", "product": "NVIDIA-L4"}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A control plane that serves KServe's InferenceService."""
    with ControlPlane(controllers=("serviceaccount-controller",)) as plane:
        definition = yaml.safe_load((KSERVE / "inferenceservices.yaml").read_text())
        plane.api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        wait_until("InferenceService", partial(plane.api.exists, SERVICES), 30)
        yield plane.api


def manifest_of(bundle) -> dict:
    """The one document of the bundle."""
    return yaml.safe_load((bundle.folder / "inferenceservice.yaml").read_text())


@pytest.mark.apiserver
def test_a_real_api_server_takes_it_as_it_is_written(api, scores):
    """A user would `kubectl apply` a manifest that the server refuses, or whose fields it drops."""
    sent = manifest_of(scores["kserve"])
    taken = api.post(SERVICES + STRICT, sent)
    assert taken["spec"] == sent["spec"]
    assert taken["metadata"]["annotations"] == sent["metadata"]["annotations"]


@pytest.mark.apiserver
def test_the_definition_is_no_rubber_stamp(api, scores):
    """If the server took any field, its taking ours would show nothing."""
    sent = manifest_of(scores["kserve"])
    sent["spec"]["predictor"]["model"]["modelFormat"]["framework"] = "triton"
    with pytest.raises(ApiError, match="framework"):
        api.post(SERVICES + STRICT, sent)


@pytest.mark.apiserver
@pytest.mark.parametrize("name", ["scores", "4.scores-of.many", "s" * 200])
@pytest.mark.parametrize("run_id", ["0123456789", "1234e56789", "0x12345678"])
def test_every_name_and_run_is_one_that_the_server_takes(api, bench, parts, name, run_id):
    """Resources may have names that services may not, and a run's id may look like a number."""
    request = parts.request_of(parts.spec_of(), name=name, run_id=run_id)
    engine = bench.engine(request, parts.network())
    bundle = bench.run(parts.stages_of(request)["bundle-kserve"], request, compile=engine)
    taken = api.post(SERVICES + STRICT, manifest_of(bundle))
    assert taken["metadata"]["annotations"]["strop.dev/run"] == run_id
    assert len(taken["metadata"]["name"]) + len("-predictor") <= 63


def test_kserves_triton_takes_the_format_and_the_protocol(scores):
    """KServe starts no pod for a format that none of its runtimes lists."""
    runtime = yaml.safe_load((KSERVE / "kserve-tritonserver.yaml").read_text())["spec"]
    model = manifest_of(scores["kserve"])["spec"]["predictor"]["model"]
    listed = [(f["name"], f["version"]) for f in runtime["supportedModelFormats"] if f.get("autoSelect")]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in listed
    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert "--model-store=/mnt/models" in runtime["containers"][0]["args"]


def test_it_serves_the_repository_where_the_run_publishes_it(scores):
    """A manifest that points elsewhere serves another model, or none."""
    model = manifest_of(scores["kserve"])["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://engines/scores/0123456789/triton"


def test_it_asks_for_the_hardware_that_was_measured_on(bench, parts):
    """On another device the plan does not load, or the figures do not hold."""
    target = {"name": "l4", "runtime": "ONNXRuntime", "accelerator": DEVICE}
    limits = {"resources": {"limits": {"memory": "4Gi"}}}
    request = parts.request_of(parts.spec_of(targets=[target], worker=limits))
    engine = bench.engine(parts.request_of(parts.spec_of()), parts.network())
    predictor = manifest_of(bench.run(parts.stages_of(request)["bundle-kserve"], request, compile=engine))["spec"][
        "predictor"
    ]
    assert predictor["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert predictor["model"]["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": "1"}


@pytest.mark.apiserver
def test_nodes_with_the_instruction_set_come_first(api, bench, parts):
    """The worker ran on such a node; elsewhere the engine is slower than its figures, or does not start."""
    target = {"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"arch": "amd64", "isa": "avx512_vnni"}}
    engine = bench.engine(parts.request_of(parts.spec_of()), parts.network())
    request = parts.request_of(parts.spec_of(targets=[target]))
    made = manifest_of(bench.run(parts.stages_of(request)["bundle-kserve"], request, compile=engine))
    predictor = made["spec"]["predictor"]
    (term,) = predictor["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    wanted = {"key": "feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI", "operator": "In", "values": ["true"]}
    assert term["preference"]["matchExpressions"] == [wanted]
    wait_until("the service account", partial(api.exists, "/api/v1/namespaces/default/serviceaccounts/default"), 30)
    scheduling = {name: predictor[name] for name in ("nodeSelector", "affinity")}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server"},
        "spec": {"containers": [{"name": "server", "image": "server"}], **scheduling},
    }
    taken = api.post("/api/v1/namespaces/default/pods" + STRICT, pod)
    assert {name: taken["spec"][name] for name in scheduling} == scheduling


def test_it_tells_with_what_was_measured(bench, parts):
    """A server of another precision or more threads would be held against figures that are not its own."""
    target = {"name": "cpu", "runtime": "OpenVINO", "cpu": {"threads": 2}}
    request = parts.request_of(parts.spec_of(targets=[target]))
    engine = bench.engine(request, parts.network())
    bundle = bench.run(parts.stages_of(request)["bundle-kserve"], request, compile=engine)
    told = manifest_of(bundle)["metadata"]["annotations"]
    assert told["measured.strop.dev/threads"] == "2"
    assert told["measured.strop.dev/INFERENCE_PRECISION_HINT"] == engine.facts["inferencePrecision"] == "f32"
    assert told["measured.strop.dev/version"] == engine.facts["version"]
    assert "# Measured with floats in f32." in (bundle.folder / "inferenceservice.yaml").read_text()


def test_a_version_compatible_plan_is_allowed_by_the_server(parts, bench):
    """Triton refuses such a plan, with a message that names no mend, unless it is started with the flag."""
    for options, arguments in (({}, None), ({"versionCompatible": True}, [FLAG])):
        target = {"name": "l4", "runtime": "TensorRT", "accelerator": DEVICE, "tensorRT": options}
        request = parts.request_of(parts.spec_of(targets=[target]))
        folder = bench.fresh()
        (folder / "engine.plan").write_bytes(b"an engine")
        facts = {"version": "11.4.0.106", "loadsIn": "TensorRT 11.4.0 alone"}
        engine = Artifact(ArtifactKind.ENGINE, folder, ("engine.plan",), facts)
        manifest = manifest_of(bench.run(parts.stages_of(request)["bundle-kserve"], request, compile=engine))
        assert manifest["spec"]["predictor"]["model"].get("args") == arguments
        assert manifest["metadata"]["annotations"]["measured.strop.dev/loads-in"] == "TensorRT 11.4.0 alone"
