# Everything happens in a virtual environment of the repository's own.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

PRETRAINED := pretrained/mnist
# What DVC says is shown where it fails: a file that was altered, a cache or a remote that is damaged.
PULL = @$(RUN); said=$$(dvc pull $(PRETRAINED) 2>&1) || { printf '%s\n' "$$said" "error: $(PRETRAINED) is not as it came \
	with the clone (above, DVC says why): if it is not yours, delete it and run again; docs/troubleshooting.md has more" >&2; \
	exit 1; }
CAPTION ?= the digit 3 is on the left of the digit 7 .
FUZZ_SECONDS ?= 300
FUZZ_SEED ?= 0

MINUTES ?= 1000000
HEX := [0-9a-f]

.PHONY: reproduce draw web site test fuzz lint bench gpu-campaign web-bench web-film report docs clean-state
reproduce: $(READY)  ## train and score the runs that params.yaml switches on, from nothing
	$(PULL)
	$(RUN) dvc repro
	$(RUN) python -m pipeline.table

# As it was given: neither make nor the shell reads what it holds.
draw: export TEXT2IMAGE_CAPTION := $(value CAPTION)
draw: $(READY)  ## images of CAPTION by the model that comes with a clone, into drawn/
	$(PULL)
	$(RUN) python -m pipeline.draw $(PRETRAINED) "$$TEXT2IMAGE_CAPTION"

web: $(READY)  ## the page that draws captions in the browser, on 127.0.0.1
	$(PULL)
	$(RUN) PYTHONPATH=src python -m pipeline.site --serve

site: $(READY)  ## the page with its models as a folder for any static host: site/
	$(PULL)
	$(RUN) PYTHONPATH=src python -m pipeline.site

test: $(READY)  ## the whole suite
	$(RUN) python -m pytest

fuzz: $(READY)  ## every reader of foreign bytes for FUZZ_SECONDS, from FUZZ_SEED on; findings in fuzz-findings/
	$(RUN) PYTHONPATH=src python -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

lint: $(READY)  ## style and types
	$(RUN) ruff check
	$(RUN) mypy

bench: $(READY)  ## what a training step, an image and a batch of data cost
	$(RUN) PYTHONPATH=src python -m benchmarks.table

gpu-campaign: $(READY)  ## all that waits for a GPU, in pieces that go on; MINUTES: of this call; REHEARSE=1: shortened, on a CPU
	$(RUN) PYTHONPATH=src python -m benchmarks.gpu_campaign --minutes $(MINUTES) $(if $(REHEARSE),--rehearse)

web-bench: $(READY)  ## what the page takes to draw, in Chromium, beside PyTorch
	$(PULL)
	$(RUN) PYTHONPATH=src python -m benchmarks.web

web-film: $(READY)  ## the pictures of docs/web.md, and its film of a visit
	$(PULL)
	$(RUN) PYTHONPATH=src python -m tests.web.film

docs: $(READY)  ## README.md and docs/ from results/ and samples/
	$(RUN) PYTHONPATH=src python -m pipeline.report
	$(RUN) python -m pipeline.docs

report: $(READY)  ## report/index.html of all that was measured and drawn, and the table of bounds
	$(RUN) PYTHONPATH=src python -m pipeline.report
	$(RUN) python -m pipeline.table

clean-state:  ## forget the state of unfinished runs
	rm -rf "$${TEXT2IMAGE_STATE:-state}"/fetch-* \
		"$${TEXT2IMAGE_STATE:-state}"/*-$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)$(HEX)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
