"""A certificate authority of our own, the certificates it issues, and the kubeconfigs that carry them."""

from collections.abc import Sequence
from pathlib import Path

from .shell import run, write

_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Python from 3.13 on verifies strictly: a certificate must name its issuer's key, and an authority its usage.
_EXTENSIONS = ("extendedKeyUsage=serverAuth,clientAuth", "authorityKeyIdentifier=keyid", "subjectKeyIdentifier=hash")


class Authority:
    """Keys and certificates in one folder; what is there is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def ca(self) -> Path:
        """The certificate that all others are verified by."""
        return self.directory / "ca.crt"

    def create(self) -> None:
        """Make the authority, and the key that signs service account tokens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.ca.exists():
            return
        tokens = self.directory / "service-accounts.key"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tokens)
        key = self.directory / "ca.key"
        said = ("-days", "365", "-subj", "/CN=strop-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        run("openssl", "req", "-x509", *_EC_KEY, "-keyout", key, "-out", self.ca, *said)

    def issue(
        self, name: str, user: str, groups: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """NAME.crt and NAME.key for a client (a user in groups) and a server (`DNS:name`, `IP:address`)."""
        crt, key, request = (self.directory / f"{name}.{end}" for end in ("crt", "key", "csr"))
        if crt.exists():
            return crt, key
        parts = [*(f"O={group}" for group in groups), f"CN={user}"]
        subject = "".join("/" + part.replace("/", r"\/") for part in parts)
        run("openssl", "req", "-new", *_EC_KEY, "-keyout", key, "-out", request, "-subj", subject)
        extensions = [*_EXTENSIONS, *([f"subjectAltName={','.join(addresses)}"] if addresses else [])]
        extension_file = write(self.directory / f"{name}.ext", "\n".join(extensions) + "\n")
        signer = ("-CA", self.ca, "-CAkey", self.directory / "ca.key", "-CAcreateserial", "-days", "365")
        run("openssl", "x509", "-req", "-in", request, *signer, "-out", crt, "-extfile", extension_file)
        return crt, key

    def client_kubeconfig(self, path: Path, server: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user by client certificate."""
        crt, key = self.issue(path.stem, user, groups)
        return self._kubeconfig(path, server, {"client-certificate": str(crt), "client-key": str(key)})

    def token_kubeconfig(self, path: Path, server: str, token: str) -> Path:
        """A kubeconfig for whoever the token stands for."""
        return self._kubeconfig(path, server, {"token": token})

    def _kubeconfig(self, path: Path, server: str, user: dict[str, str]) -> Path:
        cluster = {"server": server, "certificate-authority": str(self.ca)}
        written = write(
            path,
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "strop",
                "clusters": [{"name": "strop", "cluster": cluster}],
                "users": [{"name": "strop", "user": user}],
                "contexts": [{"name": "strop", "context": {"cluster": "strop", "user": "strop"}}],
            },
        )
        written.chmod(0o600)
        return written
