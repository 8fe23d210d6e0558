"""Which versions of PostgreSQL are taken, and what is said of others."""

from __future__ import annotations

import pytest

from stack.servers.versions import version_problem


@pytest.mark.parametrize("number", [150_000, 150_018, 160_002, 170_010, 180_004])
def test_versions_15_to_18_are_taken(number: int) -> None:
    assert version_problem(number) is None


@pytest.mark.parametrize(("number", "said"), [(140_023, "14.23"), (90_624, "9.624"), (190_000, "19.0")])
def test_any_other_version_is_refused_in_one_sentence(number: int, said: str) -> None:
    problem = version_problem(number)
    assert problem is not None
    assert problem.startswith(f"is PostgreSQL {said}; Tieout works with 15 to 18: ")
