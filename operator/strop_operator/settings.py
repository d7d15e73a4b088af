"""What the operator is told when it starts: flags, each with an environment variable behind it."""

import argparse
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Settings:
    """The operator's own settings; times in seconds."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve. None: the whole cluster."""
    operator_namespace: str = "strop-system"
    """Home of the fallback policy and of the Lease."""
    kubeconfig: Path | None = None
    """None: the pod's own service account."""
    lease: bool = True
    """Act only while holding the Lease."""
    metrics_port: int = 8080
    """Port of /metrics and /healthz on all addresses."""
    workers: int = 16
    """Reconciles at once."""
    progress_poll: float = 10.0
    """Between two looks at one worker's progress."""
    progress_patch: float = 30.0
    """Least time between two status patches that only tell progress."""
    orphan_patience: float = 30.0
    """How long a Job may outlive its resource before it is deleted; Kubernetes' garbage collector comes first."""
    identity: str = "strop"
    """Who holds the Lease."""
    log_level: str = "INFO"
    """Level of the log."""


def own_namespace() -> str:
    """The namespace the operator's pod runs in; `strop-system` outside a cluster."""
    path = SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else "strop-system"


def parse(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line; a flag beats its environment variable."""
    given = environment.get
    parser = argparse.ArgumentParser(prog="strop_operator", description="Runs ModelOptimizations as Jobs.")
    add = parser.add_argument
    add("--namespaces", default=given("STROP_NAMESPACES", ""), help="comma-separated; empty: the whole cluster")
    add("--operator-namespace", default=given("STROP_OPERATOR_NAMESPACE") or own_namespace())
    add("--kubeconfig", default=given("KUBECONFIG", ""), help="default: the pod's service account")
    add("--lease", action=argparse.BooleanOptionalAction, default=given("STROP_LEASE", "true").lower() != "false")
    add("--metrics-port", type=int, default=int(given("STROP_METRICS_PORT", "8080")))
    add("--workers", type=int, default=int(given("STROP_WORKERS", "16")))
    add("--progress-poll-seconds", type=float, default=float(given("STROP_PROGRESS_POLL_SECONDS", "10")))
    add("--progress-patch-seconds", type=float, default=float(given("STROP_PROGRESS_PATCH_SECONDS", "30")))
    add("--orphan-seconds", type=float, default=float(given("STROP_ORPHAN_SECONDS", "30")))
    add("--log-level", default=given("STROP_LOG_LEVEL", "INFO"), choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(words)
    return Settings(
        namespaces=tuple(sorted({n for n in args.namespaces.split(",") if n})),
        operator_namespace=args.operator_namespace,
        kubeconfig=Path(args.kubeconfig) if args.kubeconfig else None,
        lease=args.lease,
        metrics_port=args.metrics_port,
        workers=args.workers,
        progress_poll=args.progress_poll_seconds,
        progress_patch=args.progress_patch_seconds,
        orphan_patience=args.orphan_seconds,
        identity=f"{given('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        log_level=args.log_level,
    )
