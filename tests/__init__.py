"""Tests, by cost: unit, contract, integration, scenario, architecture. Servers: the fixtures in conftest.py."""
