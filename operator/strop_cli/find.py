"""Reading ModelOptimizations: one by name, with near names where it is not there, or all."""

from difflib import get_close_matches

from strop_cli.cluster import Cluster
from strop_cli.errors import CliError, Missing
from strop_cli.kinds import OPTIMIZATIONS
from strop_cli.optimizations import Optimization, parse


def one(cluster: Cluster, name: str) -> Optimization:
    """The resource. Raises Missing, with the names that are like it."""
    try:
        return parse(cluster.get(OPTIMIZATIONS, name))
    except Missing as missing:
        raise Missing(missing.message, mend=_near(cluster, name)) from None


def every(cluster: Cluster, namespace: str | None, selector: str = "") -> list[Optimization]:
    """All of a namespace, or of the cluster, by namespace and name."""
    found = (parse(document) for document in cluster.list(OPTIMIZATIONS, namespace, selector))
    return sorted(found, key=lambda o: (o.namespace, o.name))


def _near(cluster: Cluster, name: str) -> str:
    try:
        names = [document["metadata"]["name"] for document in cluster.list(OPTIMIZATIONS, cluster.namespace)]
    except CliError:
        return ""
    if not names:
        return f"namespace {cluster.namespace} has none: choose another with -n"
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(names)[:10])}"
