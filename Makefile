.PHONY: check test test-all bench configs

check:  ## format, lint, types
	ruff format --check .
	ruff check .
	mypy

test:  ## what the README says
	pytest

test-all: check  ## what CI runs
	pytest --cov=autosam --cov-report=term --cov-fail-under=90

bench:  ## ratios of training from cache against encoding every step
	python benchmarks/speed/cached_training.py

configs:  ## configs/reference.yaml from the settings themselves
	autosam config > configs/reference.yaml
