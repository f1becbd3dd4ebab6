# Everything is done in .venv, which the first target that needs it sets up; later runs need no network.
# What is installed there is locked: requirements/ names a version and the hashes of each package. `make lock` renews it.

PYTHON ?= python3
VENV ?= .venv
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
APP ?= chat
PORT ?= 7007
CC ?= cc
PYTEST_ARGS ?=
RUNS ?= 10000
BASE ?= HEAD
SECONDS ?= 30

# Tests start many processes. With this variable each of them would compile tcpapp anew, and so would each run.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
NEEDS := setup.cfg pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help serve test test-kit test-modules test-programs test-compiled test-latest test-once test-pythons lock wheels lint docs format bench bench-compare conformance conformance-more simulate fuzz soak account ledger clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo "  PYTHON=python3.12 (or any from 3.10 on) chooses the interpreter of .venv; another one makes .venv anew"

serve: $(VENV)/.stamp-serve $(VENV)/.stamp-core ## serve an app on 127.0.0.1: make serve APP=echo PORT=7008
	@echo "Serving $(APP). Join with 'nc 127.0.0.1 $(PORT)' or 'telnet 127.0.0.1 $(PORT)'; Ctrl-C stops."
	@exec $(BIN)/twistd -n --pidfile= tcpapp --app '$(APP)' --listen 'tcp:$(PORT):interface=127.0.0.1'

# Three processes run the tests, side by side. The first has those of single modules. The second has those of framings and
# of the test kit, which are the longest, and then what depends on the reactor, under asyncio's. The third has those of
# whole programs, and then what depends on the reactor, under our own; the select reactor holds transports to their
# contract, and so does ours. Coverage is measured where a module is tested by itself: a program that happens to come by
# a line proves little of it, and is slower when it is measured. So are random programs, and a second run of the contract.
# The documentation is followed by `make docs`.
KIT := tests/framing tests/testing/oracles tests/testing/test_pytest_plugin.py
PROGRAMS := tests/faults tests/fuzz tests/conformance tests/integration tests/interop tests/simulated tests/typed \
	tests/test_one_row.py tests/test_packaging.py tests/test_readme.py tests/test_seed.py
COMPARED := tests/reactor/test_differential.py tests/reactor/test_programs.py
FOLLOWED := tests/docs tests/test_documents.py
PLAIN := $(BIN)/python -m pytest -p no:cacheprovider
# Coverage is of the Python sources, also where they are compiled. All else runs as it is installed.
MEASURED := TCPAPP_ACCELERATED=0 $(BIN)/coverage run -m pytest -p no:cacheprovider
ON_OURS := -p tests.reactors --reactor=uvloop
# The modules with tests that run on the reactor of pytest-twisted: the others would say the same again.
WITH_A_REACTOR = $(shell grep -rlE 'global_reactor|pytest_twisted|@bounded' tests --include='test_*.py' | grep -vE '^tests/(reactor|docs)/')

test: $(VENV)/.stamp-dev $(VENV)/.stamp-core ## run the tests, under several reactors, and require full coverage
	@rm -f .coverage .coverage.*
	@for part in kit programs; do \
			$(MAKE) --no-print-directory test-$$part >$(VENV)/test-$$part.log 2>&1 & others="$$others $$!"; \
		done; trap 'kill $$others' INT TERM; \
		$(MAKE) --no-print-directory test-modules; failed=$$?; \
		for each in $$others; do wait $$each || failed=1; done; \
		cat $(VENV)/test-kit.log $(VENV)/test-programs.log; [ $$failed -eq 0 ]
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-modules: $(VENV)/.stamp-dev
	$(MEASURED) $(KIT:%=--ignore=%) $(PROGRAMS:%=--ignore=%) $(FOLLOWED:%=--ignore=%) $(PYTEST_ARGS)

test-kit: $(VENV)/.stamp-dev
	$(MEASURED) $(KIT) $(PYTEST_ARGS)
	$(PLAIN) --reactor=asyncio -m 'not once' $(WITH_A_REACTOR) $(PYTEST_ARGS)
	$(PLAIN) -p tests.reactors --reactor=select tests/testing/contract $(PYTEST_ARGS)
	$(PLAIN) tests/framing/test_loops.py tests/framing/test_loops_alike.py tests/test_compiled.py tests/test_leaks.py $(PYTEST_ARGS)

test-programs: $(VENV)/.stamp-dev
	$(PLAIN) $(PROGRAMS) $(PYTEST_ARGS)
	$(MEASURED) $(ON_OURS) tests/reactor $(COMPARED:%=--ignore=%) $(PYTEST_ARGS)
	$(PLAIN) $(ON_OURS) -m 'not once' $(COMPARED) tests/testing/contract tests/integration tests/transport/tls $(PYTEST_ARGS)

test-compiled: $(VENV)/.stamp-dev $(VENV)/.stamp-core ## run the tests on the compiled path of a message
	TCPAPP_ACCELERATED=1 $(PLAIN) -m 'not once' $(FOLLOWED:%=--ignore=%) $(PYTEST_ARGS)
	TCPAPP_ACCELERATED=1 $(PLAIN) tests/framing $(PYTEST_ARGS)

test-latest: ## run the tests with the newest releases that setup.cfg permits, instead of the locked ones
	rm -rf .venv/latest
	@mkdir -p .venv
	@$(MAKE) --no-print-directory VENV=.venv/latest LATEST=1 test

# A command of pyenv's fails where its version is not chosen: that Python is not found.
test-pythons: $(VENV)/.stamp-dev ## run the tests once on each other Python from 3.10 to 3.14 that is found
	@own=$$($(BIN)/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); failed=; \
		for each in $(PYTHONS); do \
			[ $$each = $$own ] && continue; \
			$$each -c '' 2>/dev/null || { echo "$$each: not found"; continue; }; \
			echo "$$each:"; \
			$(MAKE) --no-print-directory PYTHON=$$each VENV=.venv/$$each test-once || failed="$$failed $$each"; \
		done; \
		[ -z "$$failed" ] || { echo "the tests fail on$$failed" >&2; exit 1; }

test-once: $(VENV)/.stamp-dev $(VENV)/.stamp-core
	$(BIN)/python -m pytest -p no:cacheprovider -m 'not once' $(PYTEST_ARGS)

# auditwheel names the Linux systems that the compiled wheel runs on, as a public index asks; it brings no library along.
wheels: $(VENV)/.stamp-dev ## build dist/: a wheel for every Python, and a compiled one for this Python
	rm -rf build dist
	TCPAPP_ACCELERATED=0 $(BIN)/python -m build --wheel --no-isolation
	TCPAPP_ACCELERATED=1 $(BIN)/python -m build --wheel --no-isolation --outdir build/wheels
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheels/*.whl

lint: $(VENV)/.stamp-dev ## check style, layout and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.stamp-dev ## build the documentation, docs/_build/html/index.html, and do all that it says
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html
	$(BIN)/python -m pytest -p no:cacheprovider $(FOLLOWED)

format: $(VENV)/.stamp-dev ## lay out the code and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.stamp-bench $(VENV)/.stamp-core benchmarks/loadgen benchmarks/tlsload ## measure tcpapp beside its peers
	$(BIN)/python -m benchmarks

bench-compare: $(VENV)/.stamp-bench benchmarks/loadgen ## measure this tree beside a revision: make bench-compare BASE=HEAD~1
	$(BIN)/python -m benchmarks.compare '$(BASE)'

simulate: $(VENV)/.stamp-dev ## run a chat room over 10,000 simulated networks, and more services (half an hour): make simulate RUNS=100
	$(BIN)/python -m tests.simulated.chatroom '$(RUNS)'
	RUNS=$$(($(RUNS) / 10)) $(PLAIN) tests/simulated/test_services.py

conformance: $(VENV)/.stamp-conformance ## run Twisted's own tests on the uvloop reactor, beside its epoll reactor
	$(BIN)/python -m tests.conformance

# Each package is installed into an environment of its own below .venv, so this takes a network when it is first run.
conformance-more: $(VENV)/.stamp-conformance ## run the tests of other packages on the uvloop reactor, beside epoll
	$(BIN)/python -m tests.conformance.more

# RUNS counts executions here, and only where it was given: those of `make simulate` are another thing.
fuzz: export RUNS := $(if $(filter command line environment,$(origin RUNS)),$(RUNS))
fuzz: $(VENV)/.stamp-fuzz ## feed each reader of bytes with what a stranger may send: make fuzz SECONDS=30
	$(BIN)/python -m tests.fuzz '$(SECONDS)'

soak: $(VENV)/.stamp-dev ## ten minutes of requests, faults and drains, after which all is as it began
	$(BIN)/python -m tests.soak 600

account: $(VENV)/.stamp-dev ## ten minutes of clients that come back through faults, with each message accounted for
	$(BIN)/python -m tests.integration.accounts 600

ledger: $(VENV)/.stamp-dev ## a hundred thousand requests through faults and drains, on two reactors, each accounted for
	$(BIN)/python -m tests.integration.ledger 100000
	$(BIN)/python -m tests.integration.ledger 100000 0 uvloop

# All sets are installed into one .venv, so a package has the version in each that it has in dev's.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.10 \
	--custom-compile-command 'make lock' setup.cfg

lock: $(VENV)/.stamp-lock ## renew the versions and hashes of all that is installed into .venv
	@set -ex; $(LOCK) --extra dev --output-file requirements/dev.txt; \
		for each in $(filter-out dev,$(SETS)); do \
			$(LOCK) --constraints requirements/dev.txt --extra $$each --output-file requirements/$$each.txt; \
		done

clean: ## remove .venv and all that was built
	rm -rf .venv build dist *.egg-info tcpapp/_core.* .coverage .coverage.* htmlcov benchmarks/loadgen benchmarks/tlsload benchmarks/peers/built docs/_build
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache twisted/plugins/dropin.cache
	find tcpapp tests benchmarks docs twisted -name __pycache__ -type d -exec rm -rf {} +

# Without OpenSSL's headers there is none, and TLS is not measured.
benchmarks/tlsload: benchmarks/tlsload.c
	-@$(CC) -O2 -o $@ $< -lssl -lcrypto 2>/dev/null || echo "no OpenSSL to build $@ with: TLS is not measured"

benchmarks/loadgen: benchmarks/loadgen.c
	$(CC) -O2 -Wall -Wextra -o $@ $<

# Set-up ----------------------------------------------------------------------------------------------------------
# A stamp says that this much is installed as requirements/, setup.cfg and pyproject.toml have it.

# A Python that is asked for by name takes the place of another one, which .venv was made with.
ifneq ($(origin PYTHON),file)
ifneq ($(PYTHON),$(shell cat $(VENV)/.python 2>/dev/null))
$(VENV)/.stamp-venv: FORCE
endif
endif
FORCE:

$(VENV)/.stamp-venv:
	@command -v '$(PYTHON)' >/dev/null || { echo "tcpapp needs Python 3.10 or newer, and there is no $(PYTHON)" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"tcpapp needs Python 3.10 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "Setting up $(VENV)"
	@'$(PYTHON)' -m venv --clear $(VENV)
	@echo '$(PYTHON)' >$(VENV)/.python
	@touch $@

# Each set is an extra of setup.cfg, and a file in requirements/. The build backend is in each: it is not fetched apart.
SETS := serve dev bench fuzz conformance lock
PIP = $(BIN)/python -m pip install --disable-pip-version-check
ifdef LATEST
INSTALL = TCPAPP_ACCELERATED=0 $(PIP) --editable '.[$*]'
else
INSTALL = $(PIP) --require-hashes --requirement requirements/$*.txt \
	&& TCPAPP_ACCELERATED=0 $(PIP) --no-deps --no-build-isolation --editable .
endif

$(VENV)/.stamp-fuzz $(VENV)/.stamp-conformance: $(VENV)/.stamp-dev

$(SETS:%=$(VENV)/.stamp-%): $(VENV)/.stamp-%: requirements/%.txt $(VENV)/.stamp-venv $(NEEDS)
	@echo "Installing tcpapp[$*] into $(VENV)"
	@{ $(INSTALL); } >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@ $(VENV)/.stamp-serve # the others install all that serving needs

# The path of a message, compiled in place. Where that cannot be done, one line says why, and the Python sources are used.
CORE := $(wildcard tcpapp/*/*.pxd tcpapp/*/*.pyx)
$(VENV)/.stamp-core: setup.py tcpapp/compiled.py $(CORE) $(CORE:.pxd=.py) | $(VENV)/.stamp-serve
	@echo "Compiling the path of a message"
	@$(BIN)/python setup.py --quiet build_ext --inplace >$(VENV)/core.log 2>&1; grep '^tcpapp is not compiled' $(VENV)/core.log || true
	@touch $@
