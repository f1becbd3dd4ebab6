# Everything is done in .venv, which the first target that needs it sets up; later runs need no network.

PYTHON ?= python3
APP ?= chat
PORT ?= 7007
CC ?= cc
PYTEST_ARGS ?=
RUNS ?= 10000
BASE ?= HEAD
SECONDS ?= 30

BIN := .venv/bin
NEEDS := setup.cfg pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help serve test test-apart test-compiled wheels lint docs format bench bench-compare conformance simulate fuzz soak account clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@echo "  PYTHON=python3.12 (or any from 3.10 on) chooses the interpreter that .venv is made with"

serve: .venv/.stamp-serve ## serve an app on 127.0.0.1: make serve APP=echo PORT=7008
	@echo "Serving $(APP). Join with 'nc 127.0.0.1 $(PORT)' or 'telnet 127.0.0.1 $(PORT)'; Ctrl-C stops."
	@exec $(BIN)/twistd -n --pidfile= tcpapp --app '$(APP)' --listen 'tcp:$(PORT):interface=127.0.0.1'

# What a second process runs beside the first, and shows after it: packages and command lines, which are other processes
# again, framings and oracles; then what depends on the reactor, under others, without coverage, for it adds none. The
# select reactor holds transports to their contract, and so does our own, for which coverage is measured, too. The
# documentation is followed by `make docs`.
APART := tests/framing tests/testing/oracles tests/test_readme.py tests/test_packaging.py tests/testing/test_pytest_plugin.py
FOLLOWED := tests/docs tests/test_documents.py
ON_OURS := -p tests.reactors --reactor=uvloop

test: .venv/.stamp-dev ## run the tests, under several reactors, and require full coverage
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test-apart >.venv/test-apart.log 2>&1 & apart=$$!; trap 'kill $$apart' INT TERM; \
		$(BIN)/coverage run -m pytest $(APART:%=--ignore=%) $(FOLLOWED:%=--ignore=%) $(PYTEST_ARGS); first=$$?; \
		$(BIN)/coverage run -m pytest -p no:cacheprovider $(ON_OURS) -m 'not once' tests/integration tests/tls; ours=$$?; \
		wait $$apart; second=$$?; cat .venv/test-apart.log; [ $$first -eq 0 ] && [ $$ours -eq 0 ] && [ $$second -eq 0 ]
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-apart: .venv/.stamp-dev
	$(BIN)/coverage run -m pytest -p no:cacheprovider $(APART) $(PYTEST_ARGS)
	$(BIN)/python -m pytest -p no:cacheprovider --reactor=asyncio -m 'not once' $(PYTEST_ARGS)
	$(BIN)/python -m pytest -p no:cacheprovider -p tests.reactors --reactor=select tests/testing/contract
	$(BIN)/coverage run -m pytest -p no:cacheprovider $(ON_OURS) tests/reactor tests/testing/contract

# The wheel is unpacked in a folder of its own, which comes before this one where modules are looked for.
test-compiled: .venv/.stamp-compiled ## compile the path of a message, and run the tests on that
	TCPAPP_COMPILED=1 PYTHONPATH=$(CURDIR)/.venv/compiled $(BIN)/python -m pytest -p no:cacheprovider \
		-o pythonpath=.venv/compiled -m 'not once and not source' $(FOLLOWED:%=--ignore=%) $(PYTEST_ARGS)

wheels: .venv/.stamp-dev ## build dist/: a wheel for every Python, and a compiled one for this Python
	rm -rf build
	$(BIN)/python -m build --wheel --no-isolation
	TCPAPP_COMPILE=1 $(BIN)/python -m build --wheel --no-isolation

lint: .venv/.stamp-dev ## check style, layout and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.stamp-dev ## build the documentation, docs/_build/html/index.html, and do all that it says
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html
	$(BIN)/python -m pytest -p no:cacheprovider $(FOLLOWED)

format: .venv/.stamp-dev ## lay out the code and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.stamp-bench benchmarks/loadgen benchmarks/tlsload ## measure tcpapp beside its peers
	@$(MAKE) --no-print-directory .venv/.stamp-compiled || echo "tcpapp is not compiled here: that is not measured"
	$(BIN)/python -m benchmarks

bench-compare: .venv/.stamp-bench benchmarks/loadgen ## measure this tree beside a revision: make bench-compare BASE=HEAD~1
	$(BIN)/python -m benchmarks.compare '$(BASE)'

simulate: .venv/.stamp-dev ## run a chat room over 10,000 simulated networks (half an hour): make simulate RUNS=100
	$(BIN)/python -m tests.simulated.chatroom '$(RUNS)'

conformance: .venv/.stamp-conformance ## run Twisted's own tests on the uvloop reactor, beside its epoll reactor
	$(BIN)/python -m tests.conformance

# RUNS counts executions here, and only where it was given: those of `make simulate` are another thing.
fuzz: export RUNS := $(if $(filter command line environment,$(origin RUNS)),$(RUNS))
fuzz: .venv/.stamp-fuzz ## feed each reader of bytes with what a stranger may send: make fuzz SECONDS=30
	$(BIN)/python -m tests.fuzz '$(SECONDS)'

soak: .venv/.stamp-dev ## ten minutes of requests, faults and drains, after which all is as it began
	$(BIN)/python -m tests.soak 600

account: .venv/.stamp-dev ## ten minutes of clients that come back through faults, with each message accounted for
	$(BIN)/python -m tests.integration.accounts 600

clean: ## remove .venv and all that was built
	rm -rf .venv build dist *.egg-info .coverage .coverage.* htmlcov benchmarks/loadgen benchmarks/tlsload benchmarks/peers/built docs/_build
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache twisted/plugins/dropin.cache
	find tcpapp tests benchmarks docs twisted -name __pycache__ -type d -exec rm -rf {} +

# Without OpenSSL's headers there is none, and TLS is not measured.
benchmarks/tlsload: benchmarks/tlsload.c
	-@$(CC) -O2 -o $@ $< -lssl -lcrypto 2>/dev/null || echo "no OpenSSL to build $@ with: TLS is not measured"

benchmarks/loadgen: benchmarks/loadgen.c
	$(CC) -O2 -Wall -Wextra -o $@ $<

# Set-up ----------------------------------------------------------------------------------------------------------
# A stamp says that this much is installed as setup.cfg and pyproject.toml have it.

.venv/.stamp-venv:
	@command -v '$(PYTHON)' >/dev/null || { echo "tcpapp needs Python 3.10 or newer, and there is no $(PYTHON)" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"tcpapp needs Python 3.10 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "Setting up .venv"
	@'$(PYTHON)' -m venv .venv
	@touch $@

.venv/.stamp-serve: EXTRAS := codecs,tls
.venv/.stamp-dev: EXTRAS := dev
.venv/.stamp-bench: EXTRAS := bench
.venv/.stamp-fuzz: EXTRAS := dev,fuzz
.venv/.stamp-conformance: EXTRAS := dev,conformance
.venv/.stamp-serve .venv/.stamp-dev .venv/.stamp-bench .venv/.stamp-fuzz .venv/.stamp-conformance: .venv/.stamp-venv $(NEEDS)
	@echo "Installing tcpapp[$(EXTRAS)] into .venv"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$(EXTRAS)]' >.venv/install.log 2>&1 \
		|| { cat .venv/install.log >&2; exit 1; }
	@touch $@ .venv/.stamp-serve # the others install all that serving needs

.venv/.stamp-compiled: .venv/.stamp-dev setup.py $(shell find tcpapp -name '*.py')
	@echo "Compiling tcpapp into .venv/compiled"
	@rm -rf build .venv/compiled .venv/wheels
	@{ TCPAPP_COMPILE=1 $(BIN)/python -m build --wheel --no-isolation --outdir .venv/wheels \
		&& $(BIN)/python -m pip install --disable-pip-version-check --no-deps --target .venv/compiled .venv/wheels/*.whl; \
		} >.venv/compile.log 2>&1 || { cat .venv/compile.log >&2; exit 1; }
	@touch $@
