# The commands of the README. A newcomer needs Python 3.11+ and make; everything else is installed into .venv.
# make run ONCE=1               one pass, then stop; fails unless everything ties
# make run ORDERS=5000          size of the generated traffic
# make run INPUT="a.csv b.csv"  replay UCI Online Retail files instead (DATE_ORDER=day-first: where no date tells)

PY := .venv/bin/python
export PYTHONPATH := $(CURDIR)
# Python keeps what it has compiled, whatever the caller's shell says: each command starts many processes.
unexport PYTHONDONTWRITEBYTECODE
once := $(filter-out 0,$(ONCE))

.PHONY: run test scenarios check bench drill pictures format install lock clean

run: .venv/.installed
	@$(PY) -m cli.run $(if $(once),--once) $(if $(ORDERS),--orders $(ORDERS)) $(if $(DATE_ORDER),--date-order $(DATE_ORDER)) $(INPUT)

test: .venv/.installed
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

scenarios: .venv/.installed
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m long $(ARGS)

check: .venv/.installed
	@.ci/quiet format .venv/bin/ruff format --check --quiet .
	@.ci/quiet lint .venv/bin/ruff check --quiet .
	@.ci/quiet types .venv/bin/mypy
	@.ci/quiet imports .venv/bin/lint-imports
	@.ci/quiet sql .venv/bin/sqlfluff lint --disable-progress-bar --processes 2 dbt_project/models dbt_project/tests/*.sql
	@.ci/quiet "postgresql sql" .ci/lint-postgresql
	@.ci/quiet "code locations" .ci/validate-locations
	@.ci/quiet docs $(PY) -m docs.generate --check

bench: .venv/.installed
	@$(PY) -m bench $(ARGS)

drill: .venv/.installed
	@$(PY) -m cli drill $(ARGS)

pictures: .venv/.installed
	@$(PY) -m docs.pictures

format: .venv/.installed
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

install: .venv/.installed

# After a change of requirements.in or requirements-dev.in; `make lock ARGS=--upgrade` takes the newest of what is not pinned.
lock: .venv/.installed
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) -o requirements.lock requirements.in requirements-dev.in

clean:
	@if [ -x $(PY) ]; then $(PY) -m cli reset --yes; fi
	@rm -rf .venv var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dbt_project/target dbt_project/logs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: requirements.lock .ci/install
	@PYTHON="$(PYTHON)" .ci/install
