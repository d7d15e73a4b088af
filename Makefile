# The entry points. `make help` lists them; README.md walks through the first two.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
STORE ?= out
PY := .venv/bin/python
READY := .venv/.ready
DEVICE_PY := $(CURDIR)/.venv-device/bin/python
DEVICE_READY := .venv-device/.ready
export PYTHONWARNINGS := default
LOCKS := $(wildcard requirements/*.lock)

.PHONY: help prerequisites run test e2e nightly device-env devices bench bench-operator soak verify lint generate fixtures format cluster cluster-down lock clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Strop needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --require-hashes -r requirements/bootstrap.lock
	$(PY) -m uv pip install --python $(PY) --quiet --require-hashes -r requirements/dev.lock
	$(PY) -m uv pip install --python $(PY) --quiet --no-deps --require-hashes -r requirements/samples.lock
	$(PY) -m uv pip install --python $(PY) --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

prerequisites: ## Debian packages for `make test` and `make e2e` (root)
	.ci/prerequisites

run: $(READY) ## Optimize two real models on this machine, no cluster needed
	@$(PY) crds/samples/prepare.py --store $(STORE)
	@$(PY) -m strop_job.cli run crds/samples/minilm-int8.yaml --store $(STORE)
	@echo; echo "Next: an INT8 model that is slower than the original. Its speed-up gate must refuse it."
	@$(PY) -m strop_job.cli run crds/samples/magika-naive-int8.yaml --store $(STORE); code=$$?; \
	  if [ $$code -eq 10 ]; then echo "Refused, as it should be: nothing was published."; \
	  else echo "Expected the gate to refuse this model (exit code 10), got $$code"; exit 1; fi
	@echo; echo "Next: the same model with the recipe that suits it."
	@$(PY) -m strop_job.cli run crds/samples/magika-static-int8.yaml --store $(STORE)

test: $(READY) ## The whole suite that needs no node: contract, controller, pipeline, packaging
	$(PY) tests/cluster provide etcd kube-apiserver kube-controller-manager kubectl minio helm oras > /dev/null
	$(PY) -m pytest -n 2 tests/contract tests/controller tests/cli tests/monitoring tests/pipeline tests/closure tests/upgrade tests/gpu

e2e: $(READY) ## The real cluster from end to end (root, Linux; or Docker and kind)
	@# What takes long is built here, outside of any test's time limit.
	command -v kind > /dev/null || { $(PY) tests/cluster install helm minio prometheus && $(PY) tests/cluster image-base; }
	$(PY) -m pytest --durations=10 tests/e2e tests/cluster

fixtures: $(READY) ## Record what this release stores, for later releases to upgrade from
	$(PY) tests/upgrade/record.py

nightly: $(READY) $(DEVICE_READY) ## Everything, the long tests too
	STROP_NIGHTLY=1 STROP_DEVICE_PYTHON="$(DEVICE_PY)" $(PY) -m pytest tests

device-env: $(DEVICE_READY) ## The environment of the converters for LiteRT and Core ML (6 GB)

devices: $(READY) $(DEVICE_READY) ## The tests of LiteRT and Core ML files, with the real converters
	STROP_DEVICE_PYTHON="$(DEVICE_PY)" $(PY) -m pytest tests/pipeline/handoff/test_devices.py

$(DEVICE_READY): requirements/device.lock requirements/bootstrap.lock | $(READY)
	test -x "$(DEVICE_PY)" || $(PYTHON) -m venv .venv-device
	"$(DEVICE_PY)" -m pip install --quiet --require-hashes -r requirements/bootstrap.lock
	$(PY) -m uv pip install --python "$(DEVICE_PY)" --quiet --no-deps --require-hashes -r requirements/device.lock
	$(PY) -m uv pip install --python "$(DEVICE_PY)" --quiet --no-deps --no-build-isolation --editable .
	touch $(DEVICE_READY)

bench: $(READY) ## Figures as JSON lines: name, value, unit, low, high, n, baseline
	@for script in tests/bench/bench_*.py; do $(PY) "$$script" || exit 1; done

bench-operator: $(READY) ## What the operator costs at scale, on a real API server, all on two cores (JSON lines)
	$(PY) tests/cluster provide etcd kube-apiserver kube-controller-manager > /dev/null
	$(PY) tests/bench/operator/bench.py

MINUTES ?= 30
soak: $(READY) ## The operator under faults for half an hour: memory and descriptors stay flat (MINUTES=3 for less)
	$(PY) tests/cluster provide etcd kube-apiserver kube-controller-manager > /dev/null
	$(PY) tests/bench/operator/soak.py --minutes $(MINUTES)

verify: $(READY) ## Generated files are current
	$(PY) -m strop_api.crd --check
	$(PY) -m strop_api.reference --check
	$(PY) charts/sync.py --check
	$(PY) charts/dashboards --check

generate: $(READY) ## Make the generated files again
	$(PY) -m strop_api.crd
	$(PY) -m strop_api.reference
	$(PY) charts/sync.py
	$(PY) charts/dashboards

lint: $(READY) ## ruff, mypy --strict, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	MYPYPATH=tests:crds:operator:jobimage $(PY) -m mypy -p cluster
	PYTHONPATH=crds:operator:jobimage .venv/bin/lint-imports

format: $(READY) ## Format the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

cluster: $(READY) ## The tour: a real node, MinIO, the operator, a sample, its status
	$(PY) tests/e2e/tour.py

cluster-down: ## Stop the cluster of the tour
	$(PYTHON) tests/cluster down

lock: ## Make the lock files again after a change to pyproject.toml
	UV=.venv/bin/uv requirements/lock.sh

clean: ## Remove what `make run` and `make test` left
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
