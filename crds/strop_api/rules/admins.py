"""Rules on an OptimizationPolicy."""

from strop_api.policy import Store, WorkerImage
from strop_api.rules.rule import Rule
from strop_api.targets import Runtime


def _ca(store: Store) -> bool:
    return store.ca_bundle is None or store.endpoint.startswith("https://")


def _pem(store: Store) -> bool:
    return store.ca_bundle is None or "-----BEGIN CERTIFICATE-----" in store.ca_bundle


def _records(store: Store) -> bool:
    return store.records_uri.startswith("s3://")


def _prefix(prefix: str) -> bool:
    return prefix.startswith("s3://") and ".." not in prefix.split("/")


def _gpu(image: WorkerImage) -> bool:
    return image.gpu or Runtime.TENSORRT not in image.runtimes


POLICY = (
    Rule(
        "ca-bundle-over-https",
        "spec.stores[]",
        "!has(self.caBundle) || self.endpoint.startsWith('https://')",
        _ca,
        "caBundle needs an https endpoint",
        ".caBundle",
    ),
    Rule(
        "ca-bundle-is-pem",
        "spec.stores[]",
        "!has(self.caBundle) || self.caBundle.contains('-----BEGIN CERTIFICATE-----')",
        _pem,
        "caBundle holds PEM certificates, not base64 of them",
        ".caBundle",
    ),
    Rule(
        "records-in-the-store",
        "spec.stores[]",
        "self.recordsUri.startsWith('s3://')",
        _records,
        "records live in this store: name the folder by s3://",
        ".recordsUri",
    ),
    Rule(
        "prefixes-in-the-store",
        "spec.stores[].outputPrefixes[]",
        "self.startsWith('s3://') && !self.contains('/../') && !self.endsWith('/..')",
        _prefix,
        "outputs live in this store: name the folder by s3://, without `..`",
    ),
    Rule(
        "input-prefixes-in-the-store",
        "spec.stores[].inputPrefixes[]",
        "self.startsWith('s3://') && !self.contains('/../') && !self.endsWith('/..')",
        _prefix,
        "these inputs live in this store: name the folder by s3://, without `..`",
    ),
    Rule(
        "gpu-image",
        "spec.images[]",
        "self.gpu || !self.runtimes.exists(r, r == 'TensorRT')",
        _gpu,
        "an image with TensorRT needs gpu: true: it builds nowhere else",
        ".gpu",
    ),
)
