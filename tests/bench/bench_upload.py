"""Upload throughput of S3Store against plain minio-py `fput_object`: same file, same server, taking turns.

`python tests/bench/bench_upload.py [MiB] [rounds]` starts its own MinIO and prints one JSON line per figure.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lines import emit_spread
from minio import Minio

from cluster import MinioServer
from strop_api.result import StoreAccess
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.s3 import S3Store


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(server: MinioServer, path: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round: ours, plain."""
    plain = Minio(endpoint=server.endpoint, access_key=server.user, secret_key=server.password, secure=False)
    plain.make_bucket(bucket_name="bench")
    access = StoreAccess(endpoint=server.url, region="us-east-1", records_uri="s3://bench")
    keys = {"AWS_ACCESS_KEY_ID": server.user, "AWS_SECRET_ACCESS_KEY": server.password}
    store = S3Store(access, EnvironmentCredentials(keys))
    turns: tuple[Callable[[], object], ...] = (
        lambda: store.upload("s3://bench/ours", path),
        lambda: plain.fput_object(bucket_name="bench", object_name="plain", file_path=str(path)),
    )
    for turn in turns:  # connections, page cache
        turn()
    pairs = []
    for n in range(rounds):  # who goes first alternates
        order = (0, 1) if n % 2 else (1, 0)
        taken = {index: seconds(turns[index]) for index in order}
        pairs.append((taken[0], taken[1]))
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def main(size_mib: int = 256, rounds: int = 7) -> None:
    with MinioServer() as server, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(os.urandom(size_mib << 20))
        ours, plain = measure(server, path, rounds)
    baseline = statistics.median(size_mib / s for s in plain)
    emit_spread("upload_throughput", "MiB/s", [size_mib / s for s in ours], baseline)
    emit_spread("upload_throughput_plain_minio", "MiB/s", [size_mib / s for s in plain], baseline)
    emit_spread("upload_speed_ratio", "ratio", [p / o for o, p in zip(ours, plain, strict=True)], 1.0)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
