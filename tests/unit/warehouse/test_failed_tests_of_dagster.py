"""A build by Dagster names the first rows of a failed test, too: by the results that dbt leaves."""

from __future__ import annotations

from typing import Any, cast

import duckdb
from dagster_dbt import DbtCliInvocation

from assets.warehouse import failed_tests


class Ended:
    """A dbt command that has ended; without `results` it had run nothing."""

    def __init__(self, results: list[dict[str, Any]] | None) -> None:
        self.results = results

    def get_artifact(self, name: str) -> dict[str, Any]:
        """Return the file that dbt left."""
        if self.results is None:
            raise FileNotFoundError(name)
        return {"results": self.results}


def result(name: str, status: str, compiled: str) -> dict[str, Any]:
    return {"unique_id": f"test.tieout.{name}.1a2b", "status": status, "compiled_code": compiled}


def named(results: list[dict[str, Any]] | None) -> list[str]:
    return failed_tests(duckdb.connect(), cast("DbtCliInvocation", Ended(results)))


def test_failed_tests_are_named_with_their_first_keys() -> None:
    results = [
        result("whole", "pass", "select 'o1' as order_id where false"),
        result("net", "fail", "select 'm' as merchant_id, 7 as net_minor"),
        result("sums", "fail", "select 1 as row_count"),
    ]
    assert named(results) == ["net (the first: merchant_id=m)", "sums"]


def test_a_command_that_ran_nothing_names_nothing() -> None:
    assert named(None) == []
