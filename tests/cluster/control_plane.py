"""etcd, API server and controller manager: a Kubernetes that stores and controls, with no node to run a pod.

Tests take one of their own on free ports of the loopback; the whole cluster is one on fixed ports, plus a node.
"""

import atexit
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import binaries
from .api import Api
from .pki import Authority
from .ports import FreePort
from .processes import Processes, private_folder
from .settings import API_VIP, PODS, SERVICES
from .shell import render, wait_until, write

# What Jobs, owner references, namespaces and service accounts need; nothing that judges or cleans up after nodes,
# so that a test may bind pods to a node that does not exist and write their status itself.
CONTROLLERS = (
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)


@dataclass(frozen=True)
class Addresses:
    """Where the API server listens, and the loopback ports of the rest; port 0 means: do not listen."""

    host: str
    api: int
    etcd: int
    etcd_peer: int
    kcm: int = 0


class ControlPlane:
    """A real control plane. `with ControlPlane() as plane:` starts it, and ends it without a trace.

    Its processes are named etcd, apiserver and kcm (`plane.processes.restart("apiserver", "KILL")`).
    """

    def __init__(
        self,
        directory: Path | None = None,
        addresses: Addresses | None = None,
        *,
        controllers: Sequence[str] = CONTROLLERS,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        """Nothing starts yet. Without a directory it is temporary, without addresses they are free ones."""
        self._temporary = directory is None
        self._ports: list[FreePort] = []
        self.directory = directory or private_folder("strop-control-plane-")
        self._addresses = addresses or self._free_addresses()
        self._controllers, self._apiserver_flags = controllers, apiserver_flags
        self.processes = Processes(self.directory)
        self.authority = Authority(self.directory / "pki")
        self.url = f"https://{self._addresses.host}:{self._addresses.api}"

    @property
    def kubeconfig(self) -> Path:
        """The admin's: in system:masters, so beyond RBAC and beyond priority and fairness."""
        return self.directory / "conf" / "admin.kubeconfig"

    @property
    def api(self) -> Api:
        """A small client as admin."""
        return Api(self.kubeconfig)

    def start(self) -> None:
        """Start, and wait until objects can be created in the namespace default. Raises ClusterError."""
        atexit.register(self.stop)
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start etcd and the API server, without waiting for the latter."""
        self._programs = binaries.control_plane()
        self._certificates()
        self.processes.start("etcd", [self._programs["etcd"], *self._flags("etcd")])
        self.processes.start(
            "apiserver", [self._programs["kube-apiserver"], *self._flags("apiserver"), *self._apiserver_flags]
        )

    def await_ready(self) -> None:
        """Wait for the API server, and start the controllers behind it."""
        api = self.api
        self.processes.await_ready("apiserver", api.ready, 90)
        self.processes.start("kcm", [self._programs["kube-controller-manager"], *self._flags("kcm")])
        self.processes.await_ready("kcm", lambda: api.exists("/api/v1/namespaces/default/serviceaccounts/default"), 60)

    def stop(self) -> None:
        """End all processes; a temporary directory goes too."""
        atexit.unregister(self.stop)
        for name in ("kcm", "apiserver", "etcd"):
            # Nothing here is worth a graceful end: the API server alone would take seconds for it.
            self.processes.stop(name, "KILL" if self._temporary else "TERM")
        for port in self._ports:
            port.release()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kubeconfig_for_user(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig, by client certificate, for a user that has no rights unless some are bound to it."""
        name = f"user-{len(list((self.directory / 'conf').glob('user-*')))}"
        return self.authority.client_kubeconfig(self.directory / "conf" / f"{name}.kubeconfig", self.url, user, groups)

    def token(self, namespace: str, service_account: str, seconds: int = 3600) -> str:
        """A token for a service account, which must exist; the API server may wait for it for a moment."""
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}"
        api = self.api
        wait_until(f"service account {namespace}/{service_account}", lambda: api.exists(account), 10)
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token: str = api.post(f"{account}/token", body)["status"]["token"]
        return token

    def kubeconfig_for_service_account(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a service account's token, subject to RBAC and to priority and fairness."""
        path = self.directory / "conf" / f"sa-{namespace}-{service_account}.kubeconfig"
        return self.authority.token_kubeconfig(path, self.url, self.token(namespace, service_account))

    def __enter__(self) -> "ControlPlane":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _free_addresses(self) -> Addresses:
        self._ports = [FreePort() for _ in range(3)]
        api, etcd, peer = (port.number for port in self._ports)
        return Addresses("127.0.0.1", api, etcd, peer)

    def _certificates(self) -> None:
        issue, conf = self.authority.issue, self.directory / "conf"
        self.authority.create()
        services = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        addresses = {API_VIP, self._addresses.host, "127.0.0.1"}
        names = [*(f"DNS:{name}" for name in [*services, "localhost"]), *(f"IP:{ip}" for ip in sorted(addresses))]
        issue("apiserver", "kube-apiserver", addresses=names)
        issue("apiserver-kubelet", "kube-apiserver-kubelet-client", ["system:masters"])
        issue("front-proxy", "front-proxy-client")
        self.authority.client_kubeconfig(self.kubeconfig, self.url, "strop-admin", ["system:masters"])
        manager = "kube-controller-manager"
        self.authority.client_kubeconfig(conf / f"{manager}.kubeconfig", self.url, f"system:{manager}")

    def _flags(self, name: str) -> list[str]:
        """conf/NAME.flags, one flag a line; the filled-in file stays in conf/ for whoever looks for a mistake."""
        text = render(
            f"{name}.flags",
            STATE=self.directory,
            CONF=self.directory / "conf",
            PKI=self.authority.directory,
            HOST=self._addresses.host,
            API_PORT=self._addresses.api,
            ETCD_PORT=self._addresses.etcd,
            ETCD_PEER_PORT=self._addresses.etcd_peer,
            KCM_PORT=self._addresses.kcm,
            CONTROLLERS=",".join(self._controllers),
            PODS=PODS,
            SERVICES=SERVICES,
        )
        return write(self.directory / "conf" / f"{name}.flags", text).read_text().splitlines()
