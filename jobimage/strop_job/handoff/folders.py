"""Where each companion lies in a published run, by the name of the stage that makes it."""

TRITON, KSERVE, OCI, LITERT, CORE_ML = "bundle-triton", "bundle-kserve", "bundle-oci", "bundle-litert", "bundle-coreml"
FOLDERS = {TRITON: "triton", KSERVE: "kserve", OCI: "oci", LITERT: "litert", CORE_ML: "coreml"}
BUNDLE_STAGES = frozenset(FOLDERS)
"""Names that no step may have."""
GRAPH_FOLDER = "onnx"
"""Of the graph, where the spec lists it; it comes from whichever stage made it."""


def folder_of(stage: str) -> str:
    """The folder of a published run that holds a companion's files."""
    return FOLDERS.get(stage, GRAPH_FOLDER)
