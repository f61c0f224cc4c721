# Everything runs in .venv, which is made on first use.  PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

IN ?= tests/media/bunny.mkv
OUT ?= demo/$(basename $(notdir $(IN)))-x2.mkv
ARGS ?=

.PHONY: demo upscale test check format schemas reference bench soak models clean

demo: $(READY)  ## upscale the sample clip and show where the result is
	@mkdir -p demo
	$(BIN)/rave-trio upscale tests/media/bunny.mkv demo/bunny-x2.mkv --overwrite
	$(BIN)/python scripts/before_after.py tests/media/bunny.mkv demo/bunny-x2.mkv demo/before-after.png

upscale: $(READY)  ## make upscale IN=film.mkv OUT=film-x2.mkv ARGS="--crf 16"
	@mkdir -p "$$(dirname "$(OUT)")"
	$(BIN)/rave-trio upscale "$(IN)" "$(OUT)" $(ARGS)

test: $(READY) check  ## what CI runs
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(READY)  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(READY)  ## write the published JSON Schemas from the classes
	$(BIN)/python scripts/schemas.py --write

reference: schemas  ## write docs/reference from docstrings, the commands' help and the schemas
	$(BIN)/python scripts/reference.py --write

bench: $(READY)  ## speed and memory against the backend alone
	$(BIN)/python scripts/bench.py $(ARGS)

soak: $(READY)  ## ten minutes of runs of every ending in one process, whose memory, descriptors and threads stay flat
	$(BIN)/python scripts/soak.py $(ARGS)

models: $(READY)  ## check the shipped models against the files they were made from
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[models]'
	$(BIN)/python scripts/make_models.py --check

clean:
	rm -rf $(VENV) demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
