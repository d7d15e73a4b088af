"""The README of a published run that holds bundles: each file, whether it was measured, and how a bundle is used."""

from collections.abc import Mapping, Sequence

from strop_api.result import RunRequest
from strop_job.handoff.folders import folder_of
from strop_job.publish import PublishedFile, Role
from strop_job.stages import Artifact

HEAD = """\
# {namespace}/{name}, run {run_id}

**measured**: these very bytes passed every gate of the run. **companion**: made beside them, and nothing was measured
of it. What the files were made from and which gates were passed stands in `provenance.json`.

| file | bytes | |
|---|---:|---|
"""


def readme(request: RunRequest, companions: Mapping[str, Artifact], files: Sequence[PublishedFile]) -> str:
    """Markdown; `companions` are by stage, `files` is everything that was published."""
    head = HEAD.format(namespace=request.namespace, name=request.name, run_id=request.run_id)
    rows = "".join(f"| `{f.name}` | {f.size_bytes} | {_word(f.role)} |\n" for f in sorted(files, key=lambda f: f.name))
    return head + rows + "".join(_section(stage, companion) for stage, companion in companions.items())


def _word(role: Role) -> str:
    return "**measured**" if role is Role.MEASURED else "companion"


def _section(stage: str, companion: Artifact) -> str:
    notes = companion.facts.get("notes")
    if not isinstance(notes, list) or not notes:
        return ""
    return f"\n## {folder_of(stage)}/\n\n" + "".join(f"{note}\n" for note in notes)
