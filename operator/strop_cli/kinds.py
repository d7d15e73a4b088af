"""The kinds of objects that the commands ask for, and how an error calls a request."""

from dataclasses import dataclass

from strop_api import GROUP, VERSION
from strop_api.optimization import PLURAL
from strop_api.policy import POLICY_PLURAL


@dataclass(frozen=True)
class Kind:
    """A resource of the API."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def full(self) -> str:
        """As `kubectl auth can-i` takes it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """Where it lies; without a namespace, all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return root + inside + "".join(f"/{word}" for word in (self.plural, name, part) if word)


OPTIMIZATIONS = Kind(GROUP, VERSION, PLURAL)
POLICIES = Kind(GROUP, VERSION, POLICY_PLURAL)
JOBS = Kind("batch", "v1", "jobs")
PODS = Kind("", "v1", "pods")
SECRETS = Kind("", "v1", "secrets")
NODES = Kind("", "v1", "nodes", namespaced=False)


@dataclass(frozen=True)
class Ask:
    """One request, in the words of RBAC."""

    verb: str
    kind: Kind
    namespace: str | None
    name: str = ""
    part: str = ""

    @property
    def path(self) -> str:
        """Where it goes."""
        return self.kind.path(self.namespace, self.name, self.part)

    @property
    def resource(self) -> str:
        """What must be granted: `pods/log`, `modeloptimizations.strop.dev`."""
        if not self.part:
            return self.kind.full
        group = f".{self.kind.group}" if self.kind.group else ""
        return f"{self.kind.plural}/{self.part}{group}"

    @property
    def place(self) -> str:
        """`in namespace team-a`."""
        if not self.kind.namespaced:
            return "in the cluster"
        return f"in namespace {self.namespace}" if self.namespace else "in all namespaces"

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "") + f" {self.place}"
