# One command runs the product, one command passes the tests. Both set up what they need, and only once.
#
#   make run      everything in one process, at http://127.0.0.1:8000
#   make test     all checks and all tests (RabbitMQ and Chromium are fetched if they are missing)
#   make check    the static checks only
#   make fmt      put the code in its form
#   make lock     write requirements/*.txt anew (UPGRADE=1 takes the newest versions)

UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
BIN := .venv/bin
UV_PIP := VIRTUAL_ENV=.venv $(UV) pip
# What the project itself is built with is pinned as well.
INSTALL_DARKROOM := $(UV_PIP) install -q --no-deps --build-constraints requirements/build.txt --editable .
COMPILE := $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
           --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: run test check servers fmt lock clean
.DELETE_ON_ERROR:

run: .venv/.runtime-stamp
	@exec $(BIN)/darkroom up

test: check servers
	@$(BIN)/pytest $(PYTEST_ARGS)

check: .venv/.dev-stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

servers: .venv/.dev-stamp
	@sh scripts/get-test-servers.sh

fmt: .venv/.dev-stamp
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: | $(UV)
	@echo uv | $(COMPILE) --no-annotate - -o requirements/tools-uv.txt
	@echo hatchling editables | tr ' ' '\n' | $(COMPILE) - -o requirements/build.txt
	@$(COMPILE) pyproject.toml -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml --group dev --constraints requirements/runtime.txt -o requirements/dev.txt

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.tools/bin/uv: scripts/get-uv.sh requirements/tools-uv.txt
	@sh scripts/get-uv.sh
	@touch $@

.venv/bin/python: | $(UV)
	@$(UV) venv -q --allow-existing .venv

# Runtime is added to whatever is there, so it takes nothing away from a development environment.
.venv/.runtime-stamp: requirements/runtime.txt requirements/build.txt pyproject.toml | $(UV) .venv/bin/python
	@echo "setting up .venv ..."
	@$(UV_PIP) install -q --require-hashes -r requirements/runtime.txt
	@$(INSTALL_DARKROOM)
	@touch $@

# dev.txt holds all of runtime.txt, at the same versions: with it, runtime is set up too.
.venv/.dev-stamp: requirements/dev.txt requirements/build.txt pyproject.toml | $(UV) .venv/bin/python
	@echo "setting up .venv for development ..."
	@$(UV_PIP) sync -q --require-hashes requirements/dev.txt
	@$(INSTALL_DARKROOM)
	@touch $@ .venv/.runtime-stamp
