"""Where the cluster lives, which versions it has, and which names and addresses it takes on the machine."""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().absolute()


CACHE = _folder("STROP_CLUSTER_CACHE", "~/.cache/strop/cluster")
STATE = _folder("STROP_CLUSTER_DIR", "/tmp/strop-cluster")
BIN, CONF, PKI = CACHE / "bin", STATE / "conf", STATE / "pki"

KUBERNETES = "1.35.4"
ETCD_MINIMUM = (3, 5, 13)
MODULES = {"pause": "", "etcd": "go.etcd.io/etcd/server/v3 v3.6.5", "coredns": "github.com/coredns/coredns v1.15.0"}
TOOLS = {
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "oras": "oras.land/oras/cmd/oras@v1.3.6",
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
}

NODE = "node1"
NODE_IP = "10.250.0.1"  # a /32 on `lo`: nothing of the cluster can be reached from outside the machine
PODS, NODE_PODS, GATEWAY, BRIDGE = "10.244.0.0/16", "10.244.0.0/24", "10.244.0.1", "cni0"
SERVICES, API_VIP, DNS_VIP = "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
REGISTRY = "127.0.0.1:5000"
RUNTIME = Path("/run/strop-cluster")  # short, since it holds sockets; not containerd's own, which Docker may use
SOCKET = RUNTIME / "containerd.sock"

# Which process of the cluster listens on which port; all must be free before it starts.
PORTS = {
    "etcd": (23790, 23800),
    "apiserver": (6443,),
    "kcm": (10257,),
    "scheduler": (10259,),
    "kubelet": (10250, 10248),
    "kube-proxy": (10249, 10256),
    "registry": (5000,),
}
MARKER = "strop-test-cluster"  # the ConfigMap in kube-system that says: this cluster belongs to the tests
