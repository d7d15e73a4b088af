"""The whole path on synthetic runs whose truth is known: `tests/bench/bench_gates.py` counts many more of them."""

import numpy as np
import pytest

from strop_job.judgement.power import drop_power

SIZES = {"right": 0.9, "validation": 500, "evaluation": 1000}


@pytest.fixture(scope="session")
def asked(gate_runs):
    """At most one point, at 95%."""
    return gate_runs.spec_of({"metricDrop": {"maxPoints": "1.0", "confidence": "95%"}})


def test_a_search_on_validation_data_leaves_the_gate_its_error(gate_runs, asked) -> None:
    """The best of eight bad candidates would slip through more often than one in twenty."""
    candidates = [gate_runs.Candidate(0.01 + gained, gained) for gained in np.linspace(0, 0.03, 8)]
    passed = gate_runs.share(2000, 0, lambda random: gate_runs.searched(random, asked, candidates, **SIZES))
    assert 0.03 <= passed <= 0.06 + 0.015


def test_a_search_over_good_candidates_passes_as_often_as_was_said(gate_runs, asked) -> None:
    """The power that a user read before the run would be wrong."""
    candidates = [gate_runs.Candidate(0.01, 0.01)] * 8
    passed = gate_runs.share(2000, 1, lambda random: gate_runs.searched(random, asked, candidates, **SIZES))
    assert passed == pytest.approx(dict(drop_power(asked, 1000).passes)[0.02], abs=0.03)


def test_all_looks_together_err_no_more_than_asked(gate_runs) -> None:
    """Looking again until it passes would sell engines that are not as fast as they must be."""
    spec = gate_runs.spec_of({"speedup": {"min": "1.5", "over": "Original", "confidence": "95%"}})
    machine, medians = gate_runs.Machine(drift=0.1), {"original": 1500.0, "optimized": 1000.0}
    found = [gate_runs.looked(random, spec, machine, medians) for random in map(np.random.default_rng, range(40))]
    assert np.mean([passed for passed, _ in found]) <= 0.06 + 0.03
    assert {looks for _, looks in found} == {1, 2, 3}


def test_another_look_finds_what_one_leaves_open(gate_runs) -> None:
    """An engine that is fast enough would be refused though more calls would have shown it."""
    spec = gate_runs.spec_of({"speedup": {"min": "1.5", "over": "Original", "confidence": "95%"}})
    medians = {"original": 1535.0, "optimized": 1000.0}
    found = [
        gate_runs.looked(random, spec, gate_runs.Machine(), medians) for random in map(np.random.default_rng, range(15))
    ]
    assert any(passed and looks > 1 for passed, looks in found)


def test_a_p99_at_its_bound_passes_no_more_often_than_asked(gate_runs) -> None:
    """Calls of moody rounds would be counted as independent, and the bound would be too low."""
    spec = gate_runs.spec_of({"latency": {"p99MaxMicroseconds": 12_000, "confidence": "95%"}})
    medians = {"optimized": 12_000 / gate_runs.lognormal_quantile(2.3263)}
    machine = gate_runs.Machine()
    passed = gate_runs.share(400, 0, lambda random: gate_runs.looked(random, spec, machine, medians)[0])
    assert passed <= 0.06 + 0.02
