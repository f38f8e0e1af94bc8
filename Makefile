# RSFM. `make help` lists the targets; each installs what it lacks.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := $(or $(shell command -v uv),$(CURDIR)/.tools/bin/uv)
PYTHON := backend/.venv/bin/python
RSFM := backend/.venv/bin/rsfm
QGIS_PYTHON := build/venv-qgis/bin/python
PACKAGES := qgis python3-qgis xvfb xauth python3-venv
SOURCES := backend/rsfm rsfm_qgis tests benchmarks scripts
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup system demo test test-slow faults check format schema package bench bench-quick bench-reading bench-inference learn learning-screens change-screens clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: system backend/.venv/ready build/venv-qgis/ready ## Install everything the other targets need.

system: build/system.ready

build/system.ready:
	@mkdir -p build
	@scripts/system_packages.sh $(PACKAGES)
	@touch $@

$(CURDIR)/.tools/bin/uv: | build/system.ready
	/usr/bin/python3 -m venv .tools && .tools/bin/pip install --quiet uv

backend/.venv/ready: backend/uv.lock backend/pyproject.toml | build/system.ready
	@command -v $(UV) >/dev/null || $(MAKE) --no-print-directory $(CURDIR)/.tools/bin/uv
	cd backend && $(UV) sync --quiet --frozen
	@touch $@

build/venv-qgis/ready: tests/plugin/requirements.txt | build/system.ready
	/usr/bin/python3 -m venv --system-site-packages build/venv-qgis
	build/venv-qgis/bin/pip install --quiet -r tests/plugin/requirements.txt
	@touch $@

demo: setup ## Pretrain, fine-tune and map a made scene (or RASTER= LABELS= BEFORE= AFTER=) into build/demo.
	$(PYTHON) scripts/demo.py --out build/demo \
	  $(if $(RASTER),--raster '$(RASTER)') $(if $(LABELS),--labels '$(LABELS)') $(if $(FIELD),--field '$(FIELD)') \
	  $(if $(BEFORE),--before '$(BEFORE)') $(if $(AFTER),--after '$(AFTER)') $(if $(MINUTES),--minutes $(MINUTES))

test: setup check ## Run all tests: the backend without QGIS, the plugin in QGIS, the whole path in a QGIS window.
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist loadfile tests/backend
	QT_QPA_PLATFORM=offscreen $(QGIS_PYTHON) -m pytest -n 2 --dist loadfile tests/plugin
	$(MAKE) --no-print-directory package
	$(QGIS_PYTHON) -m pytest -p no:pytest_qgis tests/e2e

test-slow: setup ## Kill and resume 30 runs at random moments; map 60,000 x 60,000 pixels, compare 20,000 x 20,000, in 2 GB.
	OMP_NUM_THREADS=2 $(PYTHON) -m pytest -m slow tests/backend

faults: setup ## Kill worker, server and QGIS, fill a disk, move a raster away: 50 seeds, about 20 minutes.
	$(PYTHON) -m tests.faults.campaign

check: backend/.venv/ready ## Check format, lint, types, ceilings and the schema.
	$(PYTHON) -m ruff format --check $(SOURCES)
	$(PYTHON) -m ruff check $(SOURCES)
	$(PYTHON) -m mypy backend/rsfm
	$(PYTHON) -m mypy --python-version 3.11 rsfm_qgis

format: backend/.venv/ready ## Format the code and mend what lint can mend.
	$(PYTHON) -m ruff check --fix --quiet $(SOURCES) || true
	$(PYTHON) -m ruff format $(SOURCES)

schema: backend/.venv/ready ## Write the jobs and their parameters into the plugin.
	$(RSFM) describe > build/schema.json && mv build/schema.json rsfm_qgis/schema.json

package: backend/.venv/ready ## Make the plugin's zip in dist/.
	$(PYTHON) scripts/package.py

# torchgeo, a peer to compare with, lives in an environment of its own.
build/venv-bench/ready: backend/uv.lock backend/pyproject.toml | build/system.ready
	cd backend && UV_PROJECT_ENVIRONMENT=$(CURDIR)/build/venv-bench $(UV) sync --quiet --frozen --no-dev --group bench
	@touch $@

bench: setup bench-reading bench-inference ## Run every benchmark.
	@for file in $(filter-out benchmarks/reading.py benchmarks/inference.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$file"; $(PYTHON) $$file || exit 1; done

bench-quick: setup ## Run every benchmark in small, in under five minutes.
	@for file in benchmarks/*.py; do echo "== $$file"; $(PYTHON) $$file --quick || exit 1; done

bench-reading: build/venv-bench/ready ## Compare the reading of windows with torchgeo, a plain loop and the floor.
	build/venv-bench/bin/python benchmarks/reading.py

bench-inference: build/venv-bench/ready ## Compare maps in tiles with torchgeo, a plain loop and the floor.
	build/venv-bench/bin/python benchmarks/inference.py

learn: setup ## Pretrain with every method for half an hour of CPU and compare; takes over two hours (METHODS=).
	$(PYTHON) scripts/learn.py $(if $(METHODS),--methods $(METHODS)) $(if $(MINUTES),--minutes $(MINUTES))

learning-screens: setup ## Take pictures of the live chart and of successive learning maps in a QGIS window (MINUTES=).
	$(PYTHON) scripts/learning_screens.py $(if $(MINUTES),--minutes $(MINUTES))

change-screens: setup ## Compare two layers and refine by clicks in a QGIS window: times and pictures.
	$(PYTHON) scripts/change_screens.py

clean: ## Remove what was built, except the environments.
	rm -rf dist build/demo build/e2e build/learning build/change build/live_map .pytest_cache .mypy_cache .ruff_cache
