"""What the chart renders for a Prometheus operator and for Grafana: only where it is asked for, and whole."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import binaries
from monitoring.play import ALERTS

CHART = ALERTS.parents[2]
HOME = "strop-home"
Document = dict[str, Any]
KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
PARTS = {"serviceMonitor": "ServiceMonitor", "podMonitor": "PodMonitor", "prometheusRule": "PrometheusRule"}


def helm(folder: Path, values: Document, *words: str) -> subprocess.CompletedProcess[str]:
    path = folder / "values.json"
    path.write_text(json.dumps(values))
    command = [binaries.find("helm"), "template", "strop", CHART, f"--namespace={HOME}", f"--values={path}", *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)


def rendered(folder: Path, **metrics: Document) -> list[Document]:
    """What is made where the Prometheus operator's kinds are known."""
    done = helm(folder, {"metrics": metrics}, "--api-versions=monitoring.coreos.com/v1")
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def test_nothing_of_it_is_made_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Its kinds are in few clusters; elsewhere the whole chart would be refused."""
    documents = rendered(tmp_path)
    assert not [document for document in documents if document["kind"] in (*KINDS, "ConfigMap", "Service")]


@pytest.mark.parametrize("part", PARTS)
def test_without_the_prometheus_operator_helm_says_what_to_do(part: str, tmp_path: Path) -> None:
    """`no matches for kind` names neither the value nor the way out."""
    values: Document = {"metrics": {part: {"enabled": True}}}
    done = helm(tmp_path, values)
    assert done.returncode != 0
    for words in (f"metrics.{part}", "monitoring.coreos.com/v1", "CRDs", "metrics.annotations", "skipApiCheck"):
        assert words in done.stderr
    values["metrics"]["skipApiCheck"] = True
    assert PARTS[part] in helm(tmp_path, values).stdout


def test_the_operator_is_scraped_once_however_it_is_asked_for(tmp_path: Path) -> None:
    """Twice scraped, every sum of the dashboards is doubled."""
    by_pods = rendered(tmp_path, podMonitor={"enabled": True})
    both = rendered(tmp_path, podMonitor={"enabled": True}, serviceMonitor={"enabled": True})
    assert [m["metadata"]["name"] for m in of_kind(by_pods, "PodMonitor")] == ["strop", "strop-workers"]
    assert [m["metadata"]["name"] for m in of_kind(both, "PodMonitor")] == ["strop-workers"]
    only = rendered(tmp_path, podMonitor={"enabled": True, "workers": False})
    assert [m["metadata"]["name"] for m in of_kind(only, "PodMonitor")] == ["strop"]


def test_the_monitors_find_what_the_deployment_and_the_service_offer(tmp_path: Path) -> None:
    """A selector that meets nothing is silent. Labels of the metrics' own must win: `namespace` is the resource's."""
    documents = rendered(tmp_path, serviceMonitor={"enabled": True}, podMonitor={"enabled": True, "interval": "15s"})
    (service,), (monitor,) = of_kind(documents, "Service"), of_kind(documents, "ServiceMonitor")
    (deployment,) = of_kind(documents, "Deployment")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    (endpoint,), (offered,) = monitor["spec"]["endpoints"], service["spec"]["ports"]
    assert (endpoint["port"], offered["targetPort"]) == (offered["name"], "http")
    assert ports["http"] == offered["port"]
    assert endpoint["honorLabels"] is True
    (workers,) = of_kind(documents, "PodMonitor")
    assert workers["spec"]["podMetricsEndpoints"] == [{"port": "progress", "path": "/metrics", "interval": "15s"}]


@pytest.mark.parametrize("watched", [[], ["team-a", "team-b"]])
def test_workers_are_found_where_resources_are_watched(watched: list[str], tmp_path: Path) -> None:
    """They run in the namespaces of their resources, not in the operator's."""
    values = {"watchNamespaces": watched, "metrics": {"podMonitor": {"enabled": True}}}
    done = helm(tmp_path, values, "--api-versions=monitoring.coreos.com/v1")
    monitors = {
        d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all(done.stdout) if d and d["kind"] == "PodMonitor"
    }
    assert monitors["strop-workers"]["namespaceSelector"] == ({"matchNames": watched} if watched else {"any": True})
    assert monitors["strop"]["namespaceSelector"] == {"matchNames": [HOME]}


def test_a_worker_has_the_labels_and_the_port_that_its_monitor_asks_for(tmp_path: Path) -> None:
    """The chart and the operator must agree on them; the golden manifests are the operator's."""
    workers = next(
        m["spec"] for m in of_kind(rendered(tmp_path, podMonitor={"enabled": True}), "PodMonitor")
        if m["metadata"]["name"] == "strop-workers"
    )  # fmt: skip
    golden = sorted((Path(__file__).resolve().parents[1] / "controller" / "golden").glob("*.yaml"))
    jobs = [job for path in golden for job in yaml.safe_load_all(path.read_text()) if job and job["kind"] == "Job"]
    runs = [job["spec"]["template"] for job in jobs if "strop.dev/run" in job["spec"]["template"]["metadata"]["labels"]]
    assert runs
    for pod in runs:
        labels = pod["metadata"]["labels"]
        assert workers["selector"]["matchLabels"].items() <= labels.items()
        assert set(workers["podTargetLabels"]) <= labels.keys()
        assert workers["podMetricsEndpoints"][0]["port"] in {p["name"] for p in pod["spec"]["containers"][0]["ports"]}


def test_the_rules_are_carried_whole(tmp_path: Path) -> None:
    """Helm's templates and Prometheus' look alike: what Helm evaluates of a rule is lost."""
    asked = {"enabled": True, "namespace": "monitoring", "labels": {"release": "prom"}}
    (rule,) = of_kind(rendered(tmp_path, prometheusRule=asked), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
    assert (rule["metadata"]["namespace"], rule["metadata"]["labels"]["release"]) == ("monitoring", "prom")


def test_the_dashboards_are_carried_whole_and_labelled_for_the_sidecar(tmp_path: Path) -> None:
    """Grafana's sidecar takes what has its label, and puts it where the annotation says."""
    asked = {"enabled": True, "annotations": {"grafana_folder": "Models"}}
    maps = of_kind(rendered(tmp_path, dashboards=asked), "ConfigMap")
    files = {
        f"strop-{path.name}": json.loads(path.read_text()) for path in (ALERTS.parents[1] / "dashboards").iterdir()
    }
    assert {name: json.loads(text) for each in maps for name, text in each["data"].items()} == files
    assert len(files) == 2
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Models"}


@pytest.mark.parametrize(
    "metrics",
    [
        {"podMonitor": True},
        {"podMonitor": {"enable": True}},
        {"serviceMonitor": {"interval": "soon"}},
        {"prometheusRule": {"labels": {"release": 1}}},
        {"dashboards": {"namespace": "Not A Name"}},
    ],
    ids=json.dumps,
)
def test_a_misspelt_value_is_refused(metrics: Document, tmp_path: Path) -> None:
    """Helm ignores what it does not know, and nothing is scraped."""
    done = helm(tmp_path, {"metrics": metrics})
    assert done.returncode != 0
    assert "schema" in done.stderr
