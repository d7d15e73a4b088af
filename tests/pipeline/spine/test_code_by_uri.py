"""An architecture's source by uri, from the command line to the published engine: brought in, pinned, locked in."""

import copy
import json
from hashlib import sha256
from textwrap import dedent

import numpy as np
import pytest
from safetensors.numpy import save_file

from strop_job.trust.statement import read

SOURCE = dedent("""
    import socket
    from pathlib import Path
    from torch import nn

    def tried(deed):
        try:
            deed()
        except OSError:
            return "refused"
        return "done"

    def build(width, classes):
        found = [tried(socket.socket), tried(lambda: Path(MARK).write_text("ran"))]
        if found != ["refused", "refused"]:
            raise SystemExit(f"not locked in: {found}")
        return Net(width, classes)

    class Net(nn.Module):
        def __init__(self, width, classes):
            super().__init__()
            self.head = nn.Linear(width, classes)

        def forward(self, x):
            return self.head(x)
""")
AT = "spec.model.architecture.source"


class Desk:
    """A folder store with data, weights and the source of their architecture."""

    def __init__(self, root, tiny, strop):
        self.root, self.tiny, self.strop, self.store = root, tiny, strop, root / "out"
        self.mark = root / "mark"
        self.document = tiny.lay_out(self.store)
        random = np.random.default_rng(0)
        weights = {"head.weight": random.normal(size=(tiny.CLASSES, tiny.WIDTH)).astype(np.float32)}
        weights["head.bias"] = np.zeros(tiny.CLASSES, np.float32)
        save_file(weights, self.store / "models/tiny/model.safetensors")
        self.source = self.store / "models/tiny/net.py"
        self.source.write_text(f"MARK = {str(self.mark)!r}\n{SOURCE}")
        spec = self.document["spec"]
        spec["steps"], spec["gates"] = [], {"metricDrop": {"maxPoints": "1"}}
        del spec["data"]["calibration"]
        spec["output"] = {"uri": "s3://engines/tiny"}
        spec["model"] |= {"uri": "s3://models/tiny/model.safetensors", "format": "Safetensors"}
        digest = "sha256:" + sha256(self.source.read_bytes()).hexdigest()
        spec["model"]["architecture"] = {
            "callable": "net:build",
            "arguments": {"width": tiny.WIDTH, "classes": tiny.CLASSES},
            "source": {"uri": "s3://models/tiny/net.py", "digest": digest},
        }

    def run(self, verb, *words, **source):
        document = copy.deepcopy(self.document)
        document["spec"]["model"]["architecture"]["source"] |= source
        path = self.tiny.write(self.root / "spec.yaml", document)
        scratch = ("--scratch", self.root / "scratch") if verb == "run" else ()
        return self.strop(verb, path, "--store", self.store, *scratch, *words)

    def records(self):
        return list((self.store / "strop-records").rglob("*.json"))


@pytest.fixture
def desk(tmp_path, tiny, spine):
    return Desk(tmp_path, tiny, spine.strop)


def test_a_module_by_uri_is_exported_behind_bars_and_published(desk):
    """Nobody could bring an architecture that the image lacks."""
    ended = desk.run("run", "--allow-code")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not desk.mark.exists()
    [provenance] = (desk.store / "engines/tiny").glob("*/provenance.json")
    seen = read(provenance.read_bytes())
    assert seen.stage("resolve-source").digest == seen.stage("export").made_from["inputs"]["resolve-source"]


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_without_permission_nothing_of_it_is_even_read(desk, verb):
    """Whoever may write a resource could run code in the worker."""
    ended = desk.run(verb)
    assert ended.returncode == 13
    assert AT in ended.stderr
    assert "does not allow" in ended.stderr
    assert "resolve" not in ended.stdout
    assert not desk.mark.exists()
    assert not desk.records()


def test_a_source_that_is_not_what_was_pinned_is_not_run(desk):
    """Whoever may write to the bucket could swap the code."""
    ended = desk.run("run", "--allow-code", digest="sha256:" + "0" * 64)
    assert ended.returncode == 11
    assert f"{AT}.digest" in ended.stdout
    assert "export" not in {json.loads(p.read_text()).get("madeFrom", {}).get("stage") for p in desk.records()}


@pytest.mark.parametrize("uri", ["s3://models/tiny", "s3://models/tiny/none.py", "s3://models/tiny/model.onnx"])
def test_a_source_that_is_no_single_python_file_is_named(desk, uri):
    """A folder would be taken in whole, or a typing error end in a trace."""
    ended = desk.run("plan", "--allow-code", uri=uri)
    assert ended.returncode == 11
    assert f"{AT}.uri" in ended.stderr
