"""A store behind TLS with a certificate of a private authority."""

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster import MinioServer
from strop_job.errors import InvalidInput, StoreFailed
from strop_job.store.objects import ObjectMissing
from strop_job.store.s3 import S3Store

from .conftest import BRISK, access, everything, failures, keys

pytestmark = pytest.mark.minio


class SecureMinio(MinioServer):
    """The same server behind TLS: it finds its certificates below its home."""

    def __init__(self, certificates: Path) -> None:
        super().__init__()
        shutil.copytree(certificates, self._folder / ".minio" / "certs")
        self.url = f"https://{self.endpoint}"
        self._authority = ssl.create_default_context(cafile=str(certificates / "CAs" / "ca.crt"))

    def _accepts_writes(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/minio/health/cluster", timeout=2, context=self._authority):
                return True
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
        except OSError:
            pass
        return False


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A private CA (`CAs/ca.crt`) and a certificate of it for 127.0.0.1, as MinIO wants them."""
    folder = tmp_path / "certificates"
    (folder / "CAs").mkdir(parents=True)
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    for command in (
        f"{request} -keyout ca.key -out CAs/ca.crt -subj /CN=private-ca -addext keyUsage=critical,keyCertSign",
        f"{request} -keyout private.key -out public.crt -subj /CN=store -CA CAs/ca.crt -CAkey ca.key "
        "-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_private_authority_is_trusted_when_the_policy_names_it_and_only_then(
    certificates: Path, tmp_path: Path
) -> None:
    """Else a store inside a company could not be used, or anybody could stand in for it."""
    with SecureMinio(certificates) as server:
        bundle = (certificates / "CAs" / "ca.crt").read_text()
        credentials = keys(server.user, server.password)
        trusting = S3Store(access(server.url, bundle), credentials, BRISK)
        with pytest.raises(ObjectMissing, match="bucket absent does not exist"):
            trusting.create("s3://absent/key", b"x")
        for distrusting in (access(server.url), access(server.url.replace("https", "http"))):
            found = failures(everything(S3Store(distrusting, credentials, BRISK), "s3://absent/key", tmp_path))
            assert len(found) == 9
            assert all(isinstance(error, StoreFailed) for error in found.values())
        with pytest.raises(StoreFailed, match=r"certificate .* is not trusted"):
            S3Store(access(server.url), credentials, BRISK).stat("s3://absent/key")


def test_a_bundle_without_a_certificate_is_refused() -> None:
    """Else a wrong paste into the policy would look like a network failure."""
    with pytest.raises(InvalidInput, match="caBundle"):
        S3Store(access("https://127.0.0.1:9", "-----BEGIN nonsense-----"), keys("user", "secret"))
