#!/usr/bin/env bash
# Writes the lock files (versions and hashes, no index addresses). Run it after a change to pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
lock() {
  local out=$1; shift
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "$@" --output-file "requirements/$out.lock"
}
lock dev pyproject.toml --extra operator --extra cli --extra job --extra cpu --extra torch --extra openvino --extra inductor --extra rtx --group dev
lock bootstrap requirements/bootstrap.in --constraints requirements/dev.lock
lock operator pyproject.toml --extra operator --constraints requirements/dev.lock
lock worker-cpu pyproject.toml --extra job --extra cpu --extra torch --extra openvino --extra inductor \
  --constraints requirements/dev.lock
lock worker-rtx pyproject.toml --extra job --extra cpu --extra torch --extra openvino --extra inductor --extra rtx \
  --constraints requirements/dev.lock
lock worker-cuda pyproject.toml --extra job --extra cuda --extra torch --extra inductor
lock device requirements/device.in --override requirements/device.overrides
lock samples requirements/samples.in --no-deps
lock tensorrt-bindings requirements/tensorrt-bindings.in --no-deps
