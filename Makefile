# numabench: `make demo` shows it at work, `make test` proves it. Both install what is missing, and say so first.
.PHONY: help demo test lint format clean

help:
	@echo 'make demo    install what is missing, then run numa02 on 2 NUMA nodes (in a guest where there are fewer)'
	@echo 'make test    install what is missing, then run every test, guests included'
	@echo 'make lint    ruff, mypy --strict, clang-format, shellcheck'
	@echo 'make format  rewrite the sources in the form that lint wants'
	@echo 'make clean   remove what these made in this directory (results stay)'

demo:
	scripts/setup demo
	.venv/bin/numabench run numa02 --nodes 2

test:
	scripts/setup test
	.venv/bin/python -m pytest -n 2 $(PYTEST)

lint:
	scripts/setup test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror workloads/*.[ch] c_ext/*.[ch]
	shellcheck scripts/setup .ci/run $$(find numabench -name '*.sh')

format:
	scripts/setup test
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/clang-format -i workloads/*.[ch] c_ext/*.[ch]

clean:
	rm -rf .venv build dist numabench.egg-info numabench/_libnuma.* numabench/_perfdata.* .pytest_cache .mypy_cache .ruff_cache
