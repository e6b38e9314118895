# Everything happens in .venv, made on first use. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# how many tests run beside each other
WORKERS ?= auto

.PHONY: run test test-light check fix pictures docs bench bench-smoke trust soak kafka clean

run: $(VENV)/run.stamp  ## the demo on the embedded default: payments are learnt, guarded and served
	$(BIN)/holdfast demo $(ARGS)

test: $(VENV)/all.stamp  ## the whole suite, against a real Kafka broker (Java and Maven)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-light: $(VENV)/test.stamp  ## the same without torch, 6 GB less: what is tested of retrains is skipped
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/all.stamp  ## lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/all.stamp  ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/reference.py
	$(BIN)/python scripts/promises.py
	$(BIN)/python scripts/architecture.py

pictures: $(VENV)/all.stamp  ## docs/console.png, from a running demo in Chromium
	$(BIN)/python scripts/pictures.py

docs: $(VENV)/test.stamp  ## the documents as a site with search, in docs/site/html; a broken link is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs/site docs docs/site/html
	@echo "docs/site/html/site/index.html"

bench: $(VENV)/all.stamp  ## figures as ratios, each with its own yardstick in the same run
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-smoke: $(VENV)/test.stamp  ## the ratios that matter most, in two minutes; fails when one has fallen by a quarter
	$(BIN)/python benchmarks/smoke.py $(ARGS)

trust: $(VENV)/all.stamp  ## how often the guard is wrong and how soon it is right, simulated (20 years: some minutes)
	$(BIN)/python benchmarks/trust.py $(ARGS)

soak: $(VENV)/all.stamp  ## the long runs: 1,000 crash points, 200 kills, 300 of up, 50 poisoned, floods of 10^6, 10,000 callers, a longer day
	HOLDFAST_TEST_POINTS=1000 HOLDFAST_TEST_KILLS=200 HOLDFAST_TEST_FLOOD=1000000 HOLDFAST_TEST_CONNECTIONS=10000 \
	HOLDFAST_TEST_DRILLS=1 HOLDFAST_TEST_FORGED=100000 HOLDFAST_TEST_RETRAINS=200 HOLDFAST_TEST_VERDICTS=1 HOLDFAST_TEST_POISONED=50 HOLDFAST_TEST_DAY=60 HOLDFAST_TEST_AWAY=120 HOLDFAST_TEST_UP_KILLS=300 HOLDFAST_TEST_PAUSE=60 $(BIN)/python -m pytest tests/crash tests/kafka/test_day.py \
	    tests/kafka/test_faults.py tests/kafka/test_verdicts.py tests/http/test_connections.py tests/unit/test_models_from_strangers.py tests/test_drill.py -s -p no:randomly $(ARGS)

kafka: $(VENV)/run.stamp  ## a real broker on 127.0.0.1:9092 until Ctrl-C
	PYTHONPATH=tests $(BIN)/python -m support.broker

$(VENV)/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -c 'import learners.river.compiled.learner, stream.source.alike.scan'  # compiles the loops, once
	touch $@ $(VENV)/run.stamp

$(VENV)/all.stamp: $(VENV)/test.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test-retrain]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
