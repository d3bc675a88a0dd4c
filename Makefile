# Each target is one command a newcomer can read. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard native/*.* native/src/*)

.PHONY: install tools demo docs test test-cassandra test-clients test-browser test-ray test-s3 downloads soak fuzz bench bench-quality lint requirements clean

install: $(VENV)/.dev                       ## everything a contributor needs, from the pinned requirements

tools:                                      ## programs that some tests want and skip without (Debian, as root)
	scripts/tools.sh

demo: $(VENV)/.train                        ## a CSV to a served model on 127.0.0.1:8000
	$(BIN)/tamis fetch sms-spam -o data/sms-spam.csv
	$(BIN)/tamis train data/sms-spam.csv -o models/spam
	@echo "Open http://127.0.0.1:$${TAMIS_PORT:-8000}/ui or, from another terminal:"
	@echo "  curl -s http://127.0.0.1:$${TAMIS_PORT:-8000}/prediction -H 'content-type: application/json' -d '{\"text\": \"WIN a FREE phone\"}'"
	$(BIN)/tamis serve models/spam

docs: $(VENV)/.docs                         ## the documentation site in build/docs; warnings are errors
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs build/docs
	@echo 'Open build/docs/index.html'

test: install                               ## the whole suite that needs no server of another project
	$(BIN)/pytest -n 2

coverage: install                           ## the same with the lines that no test runs; takes half as long again
	$(BIN)/pytest -n 2 --cov --cov-report=term-missing:skip-covered

soak: install                               ## the long forms of the fault tests, with their figures
	$(BIN)/pytest -m soak -s

fuzz: install                               ## more than a hundred thousand generated requests, by every route's schema and beside it, dialects and binary tensors too, and raw bytes
	TAMIS_FUZZ_CASES=25000 $(BIN)/pytest -s tests/service/test_openapi.py tests/service/test_line_streams.py tests/service/test_requests.py tests/service/http/test_fuzz_connection.py tests/service/dialects -k 'generated or test_any_ or fuzz'

bench: install                              ## serving beside an empty endpoint, learning beside TensorFlow (wrk: see tools)
	command -v wrk > /dev/null || apt-get install -y wrk
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/training.py

bench-quality: install                      ## accuracy and time on labelled sets (TAMIS_SHARED), beside a plain SVM and fastText
	$(BIN)/pip install --quiet --requirement benchmarks/requirements.txt || echo 'no fastText: its column stays empty' >&2
	$(BIN)/python benchmarks/quality.py

test-cassandra: install                     ## the store on three real Cassandra nodes; needs a JDK 17 and Maven
	$(BIN)/pytest -m cassandra tests/cassandra tests/storage

test-ray: install                           ## the Ray engine of tamis score on real clusters of several node processes
	$(BIN)/pip install --quiet --require-hashes -r requirements/ray.txt || echo 'Ray could not be installed: the tests skip' >&2
	$(BIN)/pytest -m 'ray and not soak' tests/batch

test-s3: install build/s3/.installed        ## tamis score on objects of a real S3 server, which is in an environment of its own
	$(BIN)/pytest -m s3 tests/batch

test-clients: install                       ## unmodified clients of other servers, each in an environment of its own
	scripts/clients.sh
	$(BIN)/pytest -m clients tests/clients

downloads: install build/s3/.installed      ## what test-clients, test-s3 and test-cassandra would download themselves
	scripts/clients.sh
	$(BIN)/python -c 'from tests.support.cassandra_cluster import fetch_jars; fetch_jars()'

test-browser: install                       ## the web page in headless Chromium, which is installed where it may be
	scripts/tools.sh browser || echo 'Chromium could not be installed: the tests skip' >&2
	$(BIN)/pytest -m browser tests/service/ui tests/training/report

lint: install                               ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	scripts/lint_native.sh

requirements:                               ## pin again after a change of pyproject.toml (needs uv)
	scripts/pin.sh

clean:                                      ## remove what the other targets made, but no data and no models
	rm -rf $(VENV) dist build src/tamis/native_library.so .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

build/s3/.installed: requirements/s3.txt
	$(PYTHON) -m venv build/s3 && build/s3/bin/pip install --quiet --no-compile --require-hashes -r $< && touch $@ \
	    || echo 'The S3 server could not be installed: the tests skip' >&2

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: requirements/train.txt pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements/train.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.docs: requirements/docs.txt pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements/docs.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.train $(VENV)/.docs
