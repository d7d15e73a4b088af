"""Copies the generated CRDs into the chart, with the annotation that keeps them when the chart goes."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "strop" / "files" / "crds"
KEEP = "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n"


def chart_copy(text: str) -> str:
    """The CRD with Helm's keep policy."""
    if text.count("\nmetadata:\n") != 1:
        raise SystemExit("a generated CRD should have one `metadata:` of its own")
    return text.replace("metadata:\n", KEEP, 1)


def main() -> int:
    """Writes the copies, or with --check tells whether they are current."""
    stale = []
    for source in sorted((ROOT / "crds").glob("*.yaml")):
        copy, text = CHART / source.name, chart_copy(source.read_text())
        if "--check" in sys.argv:
            stale += [copy] if not copy.exists() or copy.read_text() != text else []
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not current: run `make generate`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
