# Everything that is run on this project is run from here; continuous integration calls the same targets.
#
# Needs Python 3.11 or newer with venv, make, and a package registry. All else is installed into .venv, from
# requirements/*.txt, where every file that may be installed is listed with its hash.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python3.14 python,$(shell \
	command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $(name))) python3)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.installed
PYTEST_ARGS ?=
# Where `make dist` and `make sbom` put what they make
DIST ?= dist
# Where `make docs` puts the pages
SITE ?= site
# Most tests wait for processes and sockets: three files at a time keep two cores busy. WORKERS=0 for one.
WORKERS ?= 3
# What tests import is compiled once and kept (`make clean` removes it), also for those who keep nothing elsewhere.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# uv trusts the certificate authorities that the machine trusts, as pip, git and curl do, where there are any.
CA_STORES := /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem
ifneq ($(wildcard $(CA_STORES)),)
export UV_SYSTEM_CERTS ?= true
endif
# A registry of one's own that pip knows of is used by uv too.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= copy
export PIP_DISABLE_PIP_VERSION_CHECK := 1

UV_INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links
# Every extra but `speed`, which replaces the HTTP/2 engine: `make test` runs on the plain dependencies.
EXTRAS := $(addprefix --extra ,proxy wsgi reload gateway httpx metrics otel pytest)
# What the image has (Dockerfile): all that serves, nothing that develops
CONTAINER_EXTRAS := $(addprefix --extra ,speed proxy wsgi gateway metrics otel)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- Installing ---------------------------------------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "This project needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1 || :`." \
			"Install one, or name it: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/uv: requirements/uv.txt $(STAMPS)/venv
	@echo "Installing uv into $(VENV)"
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/uv.txt
	@touch $@

# The package itself, editable, with what it needs to run
$(STAMPS)/package: requirements/build.txt requirements/runtime.txt pyproject.toml $(STAMPS)/uv
	@echo "Installing verser2-guest-python into $(VENV)"
	@$(UV_INSTALL) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(UV_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/speed $(STAMPS)/docs: $(STAMPS)/%: requirements/%.txt $(STAMPS)/package
	@echo "Installing what make $* needs into $(VENV)"
	@$(UV_INSTALL) --require-hashes -r requirements/$*.txt
	@touch $@

.PHONY: install
install: $(STAMPS)/test $(STAMPS)/lint ## install everything into .venv, for development

# ---- Running ------------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMPS)/package ## serve the example app through an embedded Host, call it once, serve on until Ctrl-C
	@exec $(BIN)/python examples/demo.py

.PHONY: bench
bench: $(STAMPS)/test ## measure this Guest beside the Node.js one (BENCH=host, BENCH=broker: those)
	@exec $(BIN)/python -m bench.$(or $(BENCH),guest) $(BENCH_ARGS)

# ---- Checking -----------------------------------------------------------------------------------

.PHONY: test
test: $(STAMPS)/test ## run all tests but the slow ones
	@VERSER_HTTP2_ENGINE=h2 $(PYTEST) $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

.PHONY: test-speed
test-speed: $(STAMPS)/test $(STAMPS)/speed ## run the same tests with the engine of the extra `speed` (jh2)
	@VERSER_HTTP2_ENGINE=jh2 $(PYTEST) $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: $(STAMPS)/test ## run the slow tests
	@VERSER_HTTP2_ENGINE=h2 $(PYTEST) -m slow $(PYTEST_ARGS)

.PHONY: coverage
coverage: $(STAMPS)/test ## run all tests but the slow ones, and show what they leave out
	@$(BIN)/python -m coverage run -m pytest -m "not slow" $(PYTEST_ARGS)
	@$(BIN)/python -m coverage report

.PHONY: lint
lint: $(STAMPS)/lint ## ruff, ruff format --check, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict src

.PHONY: docs
docs: $(STAMPS)/docs ## build the documentation into site/, without warnings and without a network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --clean --site-dir $(abspath $(SITE))
	@$(BIN)/python -m tools.check_site $(SITE)

.PHONY: format
format: $(STAMPS)/lint ## sort imports, mend what can be mended, format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# ---- Releasing ----------------------------------------------------------------------------------

.PHONY: lock
lock: $(STAMPS)/uv ## resolve requirements/*.txt anew, with hashes (UPGRADE=1 for the newest versions)
	@$(LOCK) $(if $(UPGRADE),--upgrade) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) requirements/build.in -o requirements/build.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml -c requirements/build.txt -o requirements/runtime.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml $(EXTRAS) requirements/test.in -c requirements/runtime.txt \
		-o requirements/test.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml $(EXTRAS) requirements/lint.in -c requirements/test.txt \
		-o requirements/lint.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra speed -c requirements/test.txt -o requirements/speed.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml $(CONTAINER_EXTRAS) -c requirements/lint.txt \
		-c requirements/speed.txt -o requirements/container.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) requirements/docs.in -c requirements/test.txt -o requirements/docs.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) requirements/node.in -o requirements/node.txt

# The time that goes into what is built: that of the last commit
EPOCH = $${SOURCE_DATE_EPOCH:-`git log -1 --format=%ct 2>/dev/null || echo 1767225600`}

.PHONY: dist
dist: $(STAMPS)/package ## build the wheel and the source archive into dist/, the same bytes every time
	@rm -f $(DIST)/verser2_guest_python-*
	@SOURCE_DATE_EPOCH=$(EPOCH) \
		$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir $(DIST)
	@ls -l $(DIST)

.PHONY: sbom
sbom: $(STAMPS)/test $(STAMPS)/speed ## list what the package depends on, with licences, in dist/ (CycloneDX, and as text)
	@SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m tools.sbom $(DIST)

.PHONY: clean
clean: ## remove what the other targets made, .venv too
	@rm -rf $(VENV) build dist site htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || :
