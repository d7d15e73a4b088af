"""Writes the dashboards that the chart carries, or with --check tells whether they are current."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from overview import overview
from run import run

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "charts" / "strop" / "files" / "dashboards"
PAGES = {"overview.json": overview, "run.json": run}


def main() -> int:
    """The exit code: 1 when --check finds a file that is not current."""
    made = {FOLDER / name: JSONEncoder(sort_keys=True, indent=1).encode(page().build()) for name, page in PAGES.items()}
    stale = {path: text for path, text in made.items() if not path.exists() or path.read_text() != text + "\n"}
    for path, text in stale.items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is not current: run `make generate`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
