"""The engine: that it is its program, at every size; what it really runs; and what must never be loaded."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop_api.steps import Precision
from strop_api.targets import Target
from strop_job.backends import NumberFormat, backend_for
from strop_job.backends.aoti.package import describe, require_fit
from strop_job.backends.inductor import InductorBackend, require_compiler
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact

from .conftest import BF16, INT8, TARGET, Line

target = Target.model_validate(TARGET)


def opened(artifact: Artifact, *, optimized: bool = True) -> Any:
    return backend_for(target.runtime).open(artifact, target, threads=1, optimized=optimized, spinning=False)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_an_integer_engine_computes_its_program_at_every_size(
    encoder_int8: Artifact, encoder_engine: Artifact, ids: Any
) -> None:
    """Generated code is specialised: sizes that no example had are where it would go wrong."""
    engine, program = opened(encoder_engine), opened(encoder_int8, optimized=False)
    assert engine.outputs == program.outputs == ("output",)
    for batch, sequence in ((1, 2), (1, 16), (2, 16), (3, 17), (7, 31), (8, 64)):
        inputs = ids(batch, sequence)
        assert relative(engine.run(inputs)["output"], program.run(inputs)["output"]) < 0.05


def test_a_convolutions_engine_serves_batches_beyond_what_it_was_tuned_for(
    cnn_int8: Artifact, cnn_engine: Artifact
) -> None:
    """torch narrows a batch tuned for 4 to at most 15 by itself; the spec says 20."""
    engine, program = opened(cnn_engine), opened(cnn_int8, optimized=False)
    for batch in (1, 2, 15, 16, 20):
        image = {"image": np.random.default_rng(batch).standard_normal((batch, 1, 8, 8)).astype(np.float32)}
        assert relative(engine.run(image)["output"], program.run(image)["output"]) < 0.02


def test_an_integer_convolutions_weights_are_packed_once(cnn_engine: Artifact) -> None:
    """Packed for no shape at all they are brought into order in every call: five times the latency of the rest."""
    script = (
        "import sys, torch; runner = torch._inductor.aoti_load_package(sys.argv[1]); image = torch.zeros(4, 1, 8, 8); "
        "runner(image=image); verbose = torch.backends.mkldnn.verbose(1); verbose.__enter__(); runner(image=image)"
    )
    command = [sys.executable, "-c", script, str(cnn_engine.entry)]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "exec,cpu,convolution,brg_conv_fwd:avx512_core_vnni" in log or "src:u8" in log
    assert not re.search(r"exec,cpu,reorder.*src:s8", log)


def test_other_layers_are_packed_as_torchao_packs_them(cnn: Line) -> None:
    """Only convolutions gain by a shape; a product of dynamic rows must not be given one it cannot be sure of."""
    import torch

    from strop_job.backends.aoti.workarounds import weights_packed_for_the_tuned_sizes

    program = torch.export.load(cnn.made["export"].entry)
    shape = next(n.meta["val"].shape for n in program.graph.nodes if n.name == "image")
    graph = torch.fx.Graph()
    weight = graph.placeholder("weight")
    with weights_packed_for_the_tuned_sizes():
        packed = graph.call_function(torch.ops.onednn.qlinear_prepack, (weight, shape))
        convolved = graph.call_function(torch.ops.onednn.qconv_prepack, (weight, shape))
    assert packed.args == (weight, None)
    assert convolved.args == (weight, [4, 1, 8, 8])


def test_engines_of_one_process_do_not_disturb_one_another(
    cnn_int8: Artifact, cnn_engine: Artifact, encoder_engine: Artifact, ids: Any
) -> None:
    """Verification holds two engines and a program open at once, and closes them one by one."""
    image = {"image": np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)}
    first, second, program = opened(cnn_engine), opened(encoder_engine), opened(cnn_int8, optimized=False)
    wanted, other = first.run(image)["output"], second.run(ids(2, 5))["output"]
    assert relative(wanted, program.run(image)["output"]) < 0.02
    second.close()
    np.testing.assert_array_equal(first.run(image)["output"], wanted)
    again = opened(encoder_engine)
    np.testing.assert_array_equal(again.run(ids(2, 5))["output"], other)


def test_an_open_engine_leaves_nothing_on_the_disk(
    cnn_engine: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark's child ends without ceremony: every run would leave a copy of each engine in /tmp."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    session = opened(cnn_engine)
    assert session.run({"image": np.zeros((2, 1, 8, 8), np.float32)})["output"].shape == (2, 10)
    assert not list(tmp_path.iterdir())


def test_a_closed_session_says_so(cnn_engine: Artifact) -> None:
    """A call after close would reach into an unloaded library."""
    session = opened(cnn_engine)
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run({"image": np.zeros((1, 1, 8, 8), np.float32)})


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((21, 1, 8, 8), np.float32)},
        {"image": np.zeros((0, 1, 8, 8), np.float32)},
        {"image": np.zeros((1, 1, 8, 9), np.float32)},
        {"image": np.zeros((1, 8, 8), np.float32)},
        {"image": np.zeros((1, 1, 8, 8), np.float64)},
        {"picture": np.zeros((1, 1, 8, 8), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit_never_reach_the_compiled_code(cnn_engine: Artifact, inputs: dict[str, Any]) -> None:
    """Compiled code checks nothing: it reads past the end of a smaller input."""
    session = opened(cnn_engine)
    with pytest.raises(InvalidInput, match="refuses the inputs"):
        session.run(inputs)


def test_inputs_that_disagree_on_a_dimension_are_refused(encoder_engine: Artifact) -> None:
    """One size stands for both in the generated loops."""
    inputs = {"input_ids": np.zeros((2, 8), np.int64), "attention_mask": np.ones((2, 9), np.int64)}
    with pytest.raises(InvalidInput, match="sequence is both 8 and 9"):
        opened(encoder_engine).run(inputs)


def test_memory_that_torch_does_not_take_is_copied(cnn_engine: Artifact) -> None:
    """Read-only and strided arrays are what data readers hand over."""
    image = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    session = opened(cnn_engine)
    wanted = session.run({"image": image[::2].copy()})["output"]
    frozen = image.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(session.run({"image": frozen[::2]})["output"], wanted)


def test_the_facts_of_an_engine_say_what_it_is(cnn_engine: Artifact) -> None:
    """Status, hand-off and provenance are written from them."""
    facts = cnn_engine.facts
    assert facts["runtime"] == "inductor"
    assert facts["inputs"] == [{"name": "image", "dtype": "float32", "shape": [-1, 1, 8, 8]}]
    assert facts["outputs"] == [{"name": "output", "dtype": "float32", "shape": [-1, 10]}]
    assert facts["sizeBytes"] == cnn_engine.entry.stat().st_size
    assert facts["threads"] == 1
    assert facts["device"] == "cpu"
    assert [path.name for path in cnn_engine.folder.iterdir()] == ["engine.pt2"]


def test_the_integer_share_is_read_from_what_ran(encoder_engine: Artifact) -> None:
    """The gate `realisedPrecision` believes this figure."""
    shapes = {"input_ids": (2, 16), "attention_mask": (2, 16)}
    seen = InductorBackend().inspect(encoder_engine, target, shapes)
    tokens, hidden, inner = 32, 32, 64
    linear = tokens * (4 * hidden * hidden + 2 * hidden * inner)
    attention = 2 * 2 * 16 * 16 * hidden
    assert seen.macs == linear + attention
    assert seen.macs_by_format == {"int8": linear, "fp32": attention}
    assert seen.share(Precision.INT8) == pytest.approx(linear / (linear + attention))
    assert "fp32" in seen.note


@pytest.mark.nightly
def test_a_float_engine_shows_no_integer(cnn: Line) -> None:
    """An inspection that took the order for the deed would find int8 here too."""
    engine = cnn.compile(cnn.made["export"])
    seen = InductorBackend().inspect(engine, target, {"image": (4, 1, 8, 8)})
    assert seen.share(Precision.INT8) == 0
    assert set(seen.macs_by_format) == {"fp32"}
    assert seen.macs == 4 * (64 * 8 * 9 + 16 * 16 * 8 * 9 + 16 * 10)
    plain = opened(cnn.made["export"], optimized=False)
    image = {"image": np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)}
    np.testing.assert_allclose(opened(engine).run(image)["output"], plain.run(image)["output"], rtol=1e-3, atol=1e-5)


def test_a_convolution_in_integers_is_seen_as_one(cnn_engine: Artifact) -> None:
    """Convolutions stand differently in oneDNN's log than products do."""
    seen = InductorBackend().inspect(cnn_engine, target, {"image": (4, 1, 8, 8)})
    assert seen.layers is not None
    formats = [layer.number_format for layer in seen.layers]
    assert formats == [NumberFormat.FP32, NumberFormat.INT8, NumberFormat.INT8]
    first, second, head = 4 * 64 * 8 * 9, 4 * 16 * 16 * 8 * 9, 4 * 16 * 10
    assert seen.macs_by_format == {"fp32": first, "int8": second + head}


@pytest.mark.nightly
def test_an_engine_in_bf16_runs_in_bf16(encoder: Line, ids: Any) -> None:
    """Casts that the compiler took away, or kernels that convert, would leave fp32."""
    program = encoder.quantize(BF16)
    engine = encoder.compile(program)
    seen = InductorBackend().inspect(engine, target, {"input_ids": (2, 16), "attention_mask": (2, 16)})
    share = seen.share(Precision.BF16)
    assert share is not None
    assert share > 0.8
    inputs = ids(3, 17)
    assert relative(opened(engine).run(inputs)["output"], opened(program, optimized=False).run(inputs)["output"]) < 0.02
    assert "halfInHardware" in engine.facts


@pytest.mark.nightly
def test_products_that_inductor_generated_are_counted_by_their_own_types(encoder: Line, encoder_int8: Artifact) -> None:
    """With maxAutotune they leave no line in oneDNN's log: unseen, the share would fall to nothing."""
    tuned = {**TARGET, "inductor": {"maxAutotune": True}}
    engine = encoder.compile(encoder_int8, tuned)
    assert engine.facts["maxAutotune"] is True
    seen = InductorBackend().inspect(engine, target, {"input_ids": (2, 16), "attention_mask": (2, 16)})
    share = seen.share(Precision.INT8)
    assert share is not None
    assert share > 0.8


def test_an_engine_of_another_torch_is_refused_before_it_is_loaded(cnn_engine: Artifact) -> None:
    """Its code calls into the library it was compiled with."""
    _, built = describe(cnn_engine.entry)
    require_fit(built, torch=built.torch, arch=built.arch, isa=built.isa)
    with pytest.raises(Unsupported, match=r"compiled by torch .* and this is torch 1\.0"):
        require_fit(built, torch="1.0", arch=built.arch, isa=built.isa)


def test_an_engine_for_more_instructions_than_this_processor_has_is_refused(cnn_engine: Artifact) -> None:
    """It would end the process with SIGILL."""
    _, built = describe(cnn_engine.entry)
    with pytest.raises(Unsupported, match="has no avx512_vnni"):
        require_fit(
            replace(built, isa=("avx2", "avx512_vnni")), torch=built.torch, arch=built.arch, isa=("avx2", "fma")
        )
    with pytest.raises(Unsupported, match="is arm64"):
        require_fit(built, torch=built.torch, arch="arm64", isa=built.isa)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign"])
def test_a_damaged_engine_is_an_error_in_words(cnn_engine: Artifact, tmp_path: Path, damage: str) -> None:
    """A broken blob must name itself, not end in a loader's stack trace."""
    path = tmp_path / "engine.pt2"
    whole = cnn_engine.entry.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no archive", "foreign": b""}[damage])
    if damage == "foreign":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data/aotinductor/model/x.wrapper_metadata.json", json.dumps({"AOTI_PLATFORM": "l"}))
    with pytest.raises(InvalidInput, match=r"damaged|is no engine"):
        opened(Artifact(cnn_engine.kind, tmp_path, ("engine.pt2",)))


def test_a_package_whose_library_is_broken_is_an_error_in_words(cnn_engine: Artifact, tmp_path: Path) -> None:
    """The archive may be whole and its library not."""
    path = tmp_path / "engine.pt2"
    with zipfile.ZipFile(cnn_engine.entry) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, content[:500] if entry.filename.endswith(".so") else content)
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        opened(Artifact(cnn_engine.kind, tmp_path, ("engine.pt2",)))


def test_without_a_compiler_the_error_names_it(
    cnn: Line, cnn_int8: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inductor's own words for it are a stack trace from inside a compiler's driver."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unsupported, match=r"no `g\+\+` here"):
        cnn.compile(cnn_int8)
    (tmp_path / "g++").symlink_to(shutil.which("true", path="/bin:/usr/bin") or "/bin/true")
    assert require_compiler() == "g++"


def test_an_accelerator_that_is_not_there_is_refused() -> None:
    """Falling back to the CPU would measure something else."""
    import torch

    if torch.cuda.is_available():
        return
    with pytest.raises(Unsupported, match="sees none here"):
        InductorBackend().check(Target.model_validate({"name": "gpu", "runtime": "Inductor", "accelerator": {}}))


def test_an_engine_is_loaded_without_the_quantizers_library(cnn_engine: Artifact) -> None:
    """A server needs torch alone: torchao's operators are gone once the program is compiled."""
    script = (
        "import sys, numpy, torch; runner = torch._inductor.aoti_load_package(sys.argv[1]); "
        "print(tuple(runner(image=torch.zeros(2, 1, 8, 8)).shape)); assert 'torchao' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cnn_engine.entry)], capture_output=True, text=True, check=True
    )
    assert "(2, 10)" in done.stdout


@pytest.mark.nightly
def test_an_engine_whose_loops_read_another_layout_is_never_handed_on(
    cnn: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inductor errs for an integer convolution of one channel: the engine runs, and is wrong by an eighth."""
    from strop_job.steps.quantize.torch_program import integer

    monkeypatch.setattr(integer, "one_channel", lambda graph: iter(()))
    whole = cnn.quantize(INT8)
    assert whole.facts["quantized"] == {"conv2d": 2, "linear": 1}
    with pytest.raises(Unsupported, match="fails its own assertions"):
        cnn.compile(whole)
