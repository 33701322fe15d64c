# `make` lists the targets. All can be run again; what is done is not done twice.

PYTEST_ARGS ?=
PAPER_ARGS ?=
CXIDB76 ?=
RUFF = .make/ruff/bin/ruff
MYPY = .make/mypy

.PHONY: help setup install demo test lint benchmark paper-tables clean

help:
	@echo "make setup   install DIALS (Debian, as root) where missing, and this package"
	@echo "make demo    setup, then simulate, import and screen 20 shots in demo/"
	@echo "make test    setup, then run the tests (PYTEST_ARGS=... for pytest)"
	@echo "make lint    check the style with ruff, the types with mypy"
	@echo "make benchmark  speed on one core, beside dials.find_spots"
	@echo "make paper-tables  the paper's tables and figures in paper_tables/, on simulated"
	@echo "                   shots (hours) or with CXIDB76=folder on the deposited ones"
	@echo "                   (PAPER_ARGS=... for sizes, see docs/paper.md)"
	@echo "make clean   remove what these made in this folder"
	@echo "PYTHON=...   names the interpreter that runs DIALS, where it is not found"

setup install:
	@.ci/setup

demo: setup
	@.ci/demo

# From within tests/, so that the installed package is tested, not the checkout.
test:
	@.ci/setup test
	cd tests && $$(cat ../.make/python) -m pytest $(PYTEST_ARGS)

lint: $(RUFF) $(MYPY)
	$(RUFF) format --check
	$(RUFF) check
	PYTHONPATH=$(MYPY) python3 -m mypy

# Of one minor version, as the next may format otherwise.
$(RUFF):
	python3 -m pip --disable-pip-version-check install --quiet --target .make/ruff "ruff==0.17.*"

# With numpy for its types; DIALS, torch and others have none.
$(MYPY):
	python3 -m pip --disable-pip-version-check install --quiet --target $(MYPY) \
		"mypy==2.4.*" "numpy<2"

benchmark: setup
	@.ci/benchmark

paper-tables: setup
	$$(cat .make/python) -m dials_cnn_screen.studies.paper \
		$(if $(CXIDB76),--cxidb76 "$(CXIDB76)") $(PAPER_ARGS)

clean:
	rm -rf .make build demo *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
