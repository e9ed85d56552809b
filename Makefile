# Everything happens in a virtual environment of the repository's own.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

PRETRAINED := pretrained/mnist
CAPTION ?= the digit 3 is on the left of the digit 7 .

.PHONY: reproduce draw test lint bench report docs clean-state
reproduce: $(READY)  ## train and score the runs that params.yaml switches on, from nothing
	$(RUN) dvc pull --quiet $(PRETRAINED)
	$(RUN) dvc repro
	$(RUN) python -m pipeline.report

draw: $(READY)  ## pictures of CAPTION by the model that comes with a clone, into drawn/
	$(RUN) dvc pull --quiet $(PRETRAINED)
	$(RUN) python -m pipeline.draw $(PRETRAINED) "$(CAPTION)"

test: $(READY)  ## the whole suite
	$(RUN) python -m pytest

lint: $(READY)
	$(RUN) ruff check

bench: $(READY)  ## what a training step, a picture and a batch of data cost
	$(RUN) PYTHONPATH=src python -m benchmarks.table

docs: $(READY)  ## README.md and docs/ from metrics/ and samples/
	$(RUN) python -m pipeline.report --docs

report: $(READY)  ## the table of bounds, and where the pictures lie
	$(RUN) python -m pipeline.report

clean-state:  ## forget unfinished work
	rm -rf "$${TEXT2IMAGE_STATE:-state}"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
