# `make` alone prints the targets. Everything works from a fresh clone, given Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORLD := $(DEMO)/world/.complete
MODULES := $(filter-out nbs/index.ipynb nbs/_%,$(wildcard nbs/*.ipynb))
STUDIES := $(wildcard nbs/studies/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: help install demo test readme notebooks studies real-studies docs picture wheel clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## make the environment $(VENV), once, and again when the dependencies change

$(INSTALLED): settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV); PyTorch and its libraries are several GB, so the first time takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(WORLD) ## make a world of drawn faces, train two detectors on it, compare them, and hand the first one on
	$(BIN)/fakeface run man-2-test --root $(DEMO)/world --out $(DEMO)/runs/man-2-test --overwrite
	$(BIN)/fakeface run man-2-in --root $(DEMO)/world --out $(DEMO)/runs/man-2-in --overwrite
	$(BIN)/fakeface compare $(DEMO)/runs/man-2-test $(DEMO)/runs/man-2-in
	$(BIN)/fakeface export $(DEMO)/runs/man-2-test --root $(DEMO)/world --out $(DEMO)/detector.fakeface --overwrite
	@echo "Ask it: $(BIN)/fakeface predict PHOTO --model $(DEMO)/detector.fakeface; as a page: $(BIN)/fakeface app --model $(DEMO)/detector.fakeface"
	@echo "Reports: $(DEMO)/runs/man-2-test/report.html and $(DEMO)/runs/man-2-in/report.html"

# The world is drawn once; a half-drawn one, from a run that was stopped, is drawn anew.
$(WORLD): | $(INSTALLED)
	@rm -rf $(DEMO)/world
	$(BIN)/fakeface world $(DEMO)/world
	@touch $@

# tests/notebooks.py is `nbdev_test`, once a notebook, so that notebooks and tests are shared out together and no process waits for another.
test: $(INSTALLED) ## check and test everything
	$(BIN)/python tools/check.py all
	$(BIN)/ruff check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -ra --durations=12 --notebooks tests
	@echo "All of it passed: directives, export, clean, readme, links, ruff, notebooks, tests."

readme: $(INSTALLED) ## README.md from nbs/index.ipynb, as it stands
	$(BIN)/python tools/readme.py

notebooks: $(INSTALLED) ## run the modules' notebooks and the index in place
	$(BIN)/python tools/run_notebooks.py $(MODULES) nbs/index.ipynb

studies: $(INSTALLED) ## run the studies in place
	$(BIN)/python tools/run_notebooks.py $(STUDIES)

picture: ## docs/images/report.png anew, from the report of `make demo`; needs Chromium
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1020,700 --screenshot=docs/images/report.png $(DEMO)/runs/man-2-test/report.html

docs: $(INSTALLED) ## the site in _site, from notebooks, cards and docstrings; offline, nothing is run
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/browse.py

long-%: $(INSTALLED) ## study %, such as long-03, at its published size on the real faces under $FAKEFACE_DATA; with SHORT=1 a fifth, 2 epochs; page in runs/long
	@test -d "$(FAKEFACE_DATA)" || { echo "FAKEFACE_DATA names no folder: FAKEFACE_DATA=/path/to/faces make $@"; exit 1; }
	$(if $(SHORT),$(BRIEF)) FAKEFACE_DATA="$(abspath $(FAKEFACE_DATA))" $(BIN)/python tools/run_notebooks.py --into runs/long $(wildcard nbs/studies/$*_*.ipynb)

# What SHORT=1 sets: the published networks, from scratch, at their size, so that a long run meets nothing for the first time. At 64 pixels run
# studies 3 and 8, which train many times what study 2 trains at its size, study 6, which asks its network some 20,000 times where it looked,
# and study 7, which divides its fakes in three, so that of a fifth too few are left.
SMALLER = $(if $(filter 03 06 07 08,$*),FAKEFACE_SIZE=64)
BRIEF = FAKEFACE_PROFILE=published FAKEFACE_WEIGHTS=none FAKEFACE_SCALE=$(if $(filter 07,$*),0.4,0.2) FAKEFACE_EPOCHS=2 FAKEFACE_SEEDS=1 \
	FAKEFACE_STEPS=nothing,alignment,all FAKEFACE_IMAGES=1000 $(SMALLER)

real-studies: $(INSTALLED) ## every study once on the real faces under $FAKEFACE_DATA; figures in data_manifests/reference/real, pages in runs/real
	FAKEFACE_DATA="$(FAKEFACE_DATA)" $(BIN)/python tools/real_studies.py $(ONLY)

wheel: $(INSTALLED) ## dist/*.whl
	@rm -rf build
	$(BIN)/python -m build --wheel

clean: ## remove what was built: the demo, the wheel and caches; the environment stays
	rm -rf $(DEMO)/world $(DEMO)/runs $(DEMO)/detector.fakeface _site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find fakeface nbs tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
