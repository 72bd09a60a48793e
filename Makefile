# Everything starts here; each target does its own set-up, once per requirements.lock.
#   make repro                  the default study, in place: reports/
#   make repro PROFILE=smoke    another profile, in a copy: runs/smoke/reports/ (RUN=... elsewhere)
#   make test                   ruff, pytest, the smoke study, and nbval over what is to be read
#   make soak                   kills of the smoke study and 100,000 hostile files: over an hour
#   make audit                  known weaknesses of the pinned packages
#   make setup                  the environment alone, .venv
#   make lab                    JupyterLab
#   make walkthroughs           execute notebooks/walkthrough again, in place, on the finished study
#   make smoke, make bench, make lock, make clean

PYTHON ?= python3
PROFILE ?= default
RUN ?= runs/$(PROFILE)
READY := .venv/.ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro smoke test lint unit notebooks soak audit setup lab walkthroughs bench lock clean

repro: $(READY)
ifeq ($(PROFILE),default)
	python -m hmdiff.pipeline.mend && dvc repro
else
	python -m hmdiff.pipeline.profiles $(PROFILE) $(RUN)
	cd $(RUN) && python -m hmdiff.pipeline.mend && dvc repro
endif

# With one thread, as all that is held against it: training gives the same bits for the same number.
smoke test notebooks soak: export OMP_NUM_THREADS := 1

smoke:
	$(MAKE) repro PROFILE=smoke

# Two cores: the unit tests on one; on the other the smoke study, which executes every notebook of the
# pipeline, and then the notebooks that read what it made.
test: lint
	$(MAKE) -j2 unit notebooks

lint: $(READY)
	ruff check .
	ruff format --check .

unit: $(READY)
	pytest

# In the copy that `make smoke` filled: nothing here touches the committed results.
notebooks: smoke
	cd runs/smoke && PYTHONPATH="$$PWD" pytest --nbval-lax --nbval-kernel-name python3 \
	  notebooks/walkthrough notebooks/explore

# The run that nobody kills is runs/smoke.
soak: smoke
	pytest -m soak tests/test_kill.py -s
	pytest --hypothesis-profile=soak tests/test_fuzz.py

# In an environment of its own: the audit is no part of the study.
audit:
	$(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock

setup: $(READY)

lab: $(READY)
	jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks

# Their outputs are kept in them; each gets a page in reports/walkthrough/ besides.
walkthroughs: $(READY)
	python -m hmdiff.pipeline.lessons

bench: $(READY)
	python -m hmdiff.pipeline.bench

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 to 3.13 is needed:" \
	       "name one with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	python -m pip install --quiet -r requirements.lock
	python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Renew the pins: the newest versions that pyproject.toml allows, in an environment of their own.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[test]'
	{ grep '^#' requirements.lock; \
	  build/lock/bin/python -m pip freeze --all --exclude pip --exclude hmdiff \
	  | grep -vE '^(nvidia|cuda|triton)' | sed 's/+[a-z0-9.]*$$//'; } > requirements.lock.part
	mv requirements.lock.part requirements.lock

# What is made again in minutes: neither the environment, nor data, nor the studies below runs/.
clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis
