"""Tests, by cost: unit, contract, integration, scenario, architecture. Servers: the fixtures in conftest.py."""

import os

# Before `stack` says otherwise: DuckDB keeps freed memory for some seconds, as it does by default. To give it back
# after every query, as the product does, costs tests a sixth of their processor time.
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "")
