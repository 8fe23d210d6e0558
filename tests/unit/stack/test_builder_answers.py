"""What the building child answers: errors as one line, and no secret in any message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import duckdb

from stack.builder import answer_of


def clean(text: str) -> str:
    return text.replace("geheim", "***")


def test_an_error_of_duckdb_is_an_answer_without_secrets() -> None:
    def build() -> Any:
        raise duckdb.IOException("could not connect to postgresql://tieout:geheim@host/catalog")

    assert answer_of(build, clean) == {
        "error": "IOException: could not connect to postgresql://tieout:***@host/catalog"
    }


def test_the_message_of_a_failed_model_has_no_secrets() -> None:
    node = SimpleNamespace(name="orders", kind="model", status="error", message="no connection with geheim")
    result = SimpleNamespace(
        build_id="b", cuts={"pod1": 1}, is_complete=False, is_built=False, nodes=[node], seconds=1.0
    )
    assert answer_of(lambda: result, clean)["failed"] == ["orders: error no connection with ***"]
