"""What a published run's README.md says of its files: whether each was measured, and how a bundle is used."""

from collections.abc import Mapping, Sequence

from strop_job.handoff.folders import folder_of
from strop_job.publish import PublishedFile, Role
from strop_job.stages import Artifact
from strop_job.trust.markup import code

HEAD = """\
**measured**: these very bytes passed every gate of the run. **companion**: made beside them, and nothing was measured
of it.

| file | bytes | |
|---|---:|---|
"""


def files_table(files: Sequence[PublishedFile]) -> str:
    """Markdown; `files` is everything that was published before the README."""
    return HEAD + "".join(
        f"| {code(f.name)} | {f.size_bytes} | {_word(f.role)} |\n" for f in sorted(files, key=lambda f: f.name)
    )


def bundles(companions: Mapping[str, Artifact]) -> str:
    """A section for each bundle that has something to say; `companions` are by stage."""
    return "".join(_section(stage, companion) for stage, companion in companions.items())


def _word(role: Role) -> str:
    return "**measured**" if role is Role.MEASURED else "companion"


def _section(stage: str, companion: Artifact) -> str:
    notes = companion.facts.get("notes")
    if not isinstance(notes, list) or not notes:
        return ""
    return f"\n## {folder_of(stage)}/\n\n" + "".join(f"{note}\n" for note in notes)
