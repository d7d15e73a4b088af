"""Real servers for strop's tests: a one-node Kubernetes cluster, a control plane alone, and MinIO.

Standard library only: it runs before any environment exists. Tests import `ControlPlane` and `MinioServer`;
people and the end-to-end tests run `python3 tests/cluster VERB`.
"""

from .control_plane import ControlPlane
from .minio_server import MinioServer
from .shell import ClusterError

__all__ = ["ClusterError", "ControlPlane", "MinioServer"]
