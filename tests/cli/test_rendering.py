"""How answers look: 80 columns, no control characters, no folding where nobody looks."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from status_parts import RUN, status, target

from strop_cli import comparing, listing, tree
from strop_cli.optimizations import parse
from strop_cli.words import age, aligned, hidden, shown

NOW = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)


@pytest.fixture
def made(spec):
    """A resource with a status, by name."""

    def make(name="digits", reason="Published", **changes):
        document = {
            "metadata": {"name": name, "namespace": "team-a", "generation": 1, "uid": "u", "resourceVersion": "1",
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }  # fmt: skip
        return parse(document | {"status": status(document, reason, **changes)})

    return make


def test_a_list_fits_80_columns(made):
    """Broken, each line would be folded, and no column stand below its heading."""
    found = [made("a-resource-with-a-very-long-name-that-somebody-generated-0123456789"), made("b")]
    lines = [line.plain for line in listing.lines(found, namespaced=True, width=80, now=NOW)]
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1]
    assert lines[0].index("READY") == lines[1].index("True") == lines[2].index("True")


def test_progress_gives_way_before_the_name_does(made):
    """Broken, names could not be told apart while runs go on."""
    busy = made("busy-0123456789", "Running", summary={"progress": "a-stage-with-a-long-name-of-its-own 40%"})
    lines = [line.plain for line in listing.lines([busy], namespaced=False, width=80, now=NOW)]
    assert "busy-0123456789" in lines[1]
    assert len(lines[1]) <= 80


def test_a_usual_list_is_not_cut_at_all(made):
    """Broken, the percent of a run that goes on would be the first to go."""
    busy = made("slow-transformer-int8", "Running", summary={"progress": "quantize 40%"})
    lines = [line.plain for line in listing.lines([busy, made()], namespaced=False, width=80, now=NOW)]
    assert not any("…" in line for line in lines)


def test_without_a_terminal_nothing_is_cut(made):
    """Broken, a script would read half a name."""
    name = "n" * 200
    assert name in list(listing.lines([made(name)], namespaced=False, now=NOW))[1].plain


@pytest.mark.parametrize(
    ("since", "words"),
    [("2026-01-01T00:04:30Z", "30s"), ("2025-12-31T23:53:00Z", "12m"), ("2025-12-31T19:05:00Z", "5h"),
     ("2025-12-28T00:05:00Z", "4d"), ("2026-01-01T00:06:00Z", "0s")],
)  # fmt: skip
def test_age_is_written_as_kubectl_does(since, words):
    """Broken, people would have to learn a second way."""
    assert age(since, NOW) == words


def test_wide_characters_keep_their_column():
    """Broken, a message in Chinese would shift its row."""
    lines = [line.plain for line in aligned(("A", "B"), [("模型", "x"), ("ab", "y")])]
    assert lines == ["A     B", "模型  x", "ab    y"]


def test_words_of_others_cannot_steer_the_terminal(made):
    """Broken, a resource's message could clear the screen of whoever lists it."""
    out = io.StringIO()
    found = made(reason="GateMissed", message="bad \x1b[2J news", targets=[])
    Console(file=out, width=80).print(tree.tree(found, now=NOW))
    assert "\x1b" not in out.getvalue()
    assert "\x1b" not in tree.plain(found)
    assert shown("a\x07b") == "a\ufffdb"


def test_passwords_in_addresses_are_hidden():
    """Broken, an error about a server would show them."""
    assert hidden("cannot reach https://eve:pw@host:1/x") == "cannot reach https://[hidden]@host:1/x"


def test_the_tree_fits_80_columns_of_a_terminal(made):
    """Broken, branches would be torn."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    console.print(tree.tree(made(), now=NOW))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("team-a/digits  Published")


def test_stages_that_passed_stand_before_the_present_one(made):
    """Broken, the tree would show one stage at a time."""
    out = io.StringIO()
    busy = made(reason="Running", progress={"stage": "quantize", "percent": 40, "message": "layer 3"})
    Console(file=out, width=100).print(tree.tree(busy, ["resolve-model", "export"], NOW))
    words = [line.strip("│├└─ ") for line in out.getvalue().splitlines()]
    assert words[2:5] == ["✓ resolve-model", "✓ export", f"▸ {'━' * 10}{'─' * 14}  40 %  quantize  layer 3"]


def side(run, **changes):
    from strop_api.status import TargetStatus

    return comparing.Side(f"digits@{run}", TargetStatus.model_validate(target(**changes)))


def verdicts(a, b):
    return {row.figure: str(row.verdict) for row in comparing.rows(a, b)}


def speed(low, high, over="BestUnquantized"):
    return {"ratio": str((low + high) / 2), "low": str(low), "high": str(high), "over": over}


@pytest.mark.parametrize(
    ("second", "verdict"),
    [(speed(2.5, 2.7), "better"), (speed(1.5, 2.1), "worse"), (speed(2.3, 2.6), "undecided"),
     (speed(2.4, 2.6), "undecided"), (speed(9.0, 9.5, "Original"), "")],
)  # fmt: skip
def test_a_speed_up_is_better_only_where_intervals_are_apart(second, verdict):
    """Broken, noise would be sold as progress."""
    assert verdicts(side("a"), side("b", speedup=second))["speed-up"] == verdict


def test_a_smaller_loss_is_better_and_without_an_interval_nothing_is_said():
    """Broken, the direction would be wrong, or a point estimate taken for more than it is."""
    metric = target()["metric"]
    less = metric | {"dropPoints": "-0.5", "low": "-0.9", "high": "0.0"}
    bare = {name: value for name, value in metric.items() if name not in ("low", "high")}
    assert verdicts(side("a"), side("b", metric=less))["loss in points"] == "better"
    assert verdicts(side("a"), side("b", metric=bare))["loss in points"] == ""


def test_losses_on_other_data_are_not_compared():
    """Broken, an easier evaluation set would look like a better engine."""
    metric = target()["metric"] | {"samples": 100, "low": "-9", "high": "-8"}
    a, b = side("a"), side("b", metric=metric)
    assert verdicts(a, b)["loss in points"] == ""
    assert any("evaluation data differ" in note for note in comparing.notes(a, b))


def test_latencies_have_no_interval_and_so_no_verdict():
    """Broken, a status would say more than was kept."""
    b = side("b", latency={"p50Microseconds": 1, "calls": 400})
    found = verdicts(side("a"), b)
    assert found["latency p50"] == ""
    assert any("no interval of latency" in note for note in comparing.notes(side("a"), b))


def test_sizes_are_exact():
    """Broken, a smaller engine would not be called so."""
    smaller = target()["artifact"] | {"sizeBytes": 100}
    assert verdicts(side("a"), side("b", artifact=smaller))["engine's size"] == "better"
    assert verdicts(side("a"), side("b"))["engine's size"] == ""


def test_what_one_side_did_not_measure_is_a_dash():
    """Broken, an absent figure would be a zero."""
    rows = {row.figure: row for row in comparing.rows(side("a"), side("b", speedup=None, metric=None, latency=None))}
    assert (rows["speed-up"].second, rows["loss in points"].second, rows["latency p50"].second) == ("-", "-", "-")


def test_a_comparison_fits_80_columns():
    """Broken, the two sides would not stand beside each other."""
    name = "a-resource-with-a-very-long-name-that-somebody-generated-0123456789"
    a, b = (comparing.Side(f"{name}@{run}", side(run).target) for run in (RUN, "9876543210"))
    lines = [line.plain for line in comparing.lines(a, b, 80)]
    assert lines[0] == f"A  {name}@{RUN}"
    assert max(len(line) for line in lines[2:] if "note:" not in line) <= 80
    assert "2.31x (2.2 to 2.4)  2.31x (2.2 to 2.4)  undecided" in "\n".join(lines)
