# pneumod: `make demo` shows it, `make test` checks it. Both need Python 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint sim chaos mosquitto clean

demo: .venv/installed
	$(BIN)/pneumod demo $(ARGS)

test: .venv/installed-dev mosquitto lint
	$(BIN)/pytest $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Virtual clusters on a faulty bus, one a seed; a failure prints the seed that plays it again.
# make sim [SEED=1] [RUNS=20] [NODES=N] [SECONDS=120]
sim: .venv/installed-dev
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(NODES),--nodes $(NODES)) $(if $(SECONDS),--seconds $(SECONDS))

# Real daemons on a real Mosquitto: killed, frozen, starved. Prints a line a scenario, and a table of figures.
# make chaos [ARGS="--list"] [ARGS="--only kill-master-collecting --repeat 20"]
chaos: .venv/installed-dev mosquitto
	$(BIN)/python -m tests.chaos $(ARGS)

.venv/installed: pyproject.toml
	@echo "Installing pneumod and TensorFlow into .venv: one or two minutes, 2 GB on the disk."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[train]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[train,dev]'
	touch $@

# Mosquitto is a part of the tests: without root or sudo they go on without it, and say so.
mosquitto:
	@if PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; else as_root="sudo -n"; fi; \
	if $$as_root apt-get update -qq && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto; then \
		$$as_root systemctl disable --now mosquitto 2>/dev/null || true; \
	else \
		echo "Mosquitto is not installed and can't be installed here: the tests that need it are skipped"; \
		echo "(tests/broker/test_mosquitto_conf.py, tests/integration, tests/chaos). By hand: apt-get install mosquitto"; \
	fi

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
