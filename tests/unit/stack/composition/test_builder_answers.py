"""What the building child answers: errors as one line, and no secret in any message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import duckdb

from derived.warehouse import NodeRun
from stack.composition.builder import answer_of


def clean(text: str) -> str:
    return text.replace("geheim", "***")


def test_an_error_of_duckdb_is_an_answer_without_secrets() -> None:
    def build() -> Any:
        raise duckdb.IOException("could not connect to postgresql://tieout:geheim@host/catalog")

    assert answer_of(build, clean) == {
        "error": "IOException: could not connect to postgresql://tieout:***@host/catalog"
    }


def build_of(*nodes: NodeRun, is_built: bool) -> SimpleNamespace:
    """Return an incomplete build."""
    return SimpleNamespace(
        build_id="b",
        cuts={"pod1": 1},
        is_complete=False,
        is_built=is_built,
        nodes=nodes,
        seconds=1.0,
        left_out=(),
        warnings=(),
    )


def test_the_message_of_a_failed_model_has_no_secrets() -> None:
    node = NodeRun(
        name="orders", kind="model", status="error", seconds=0.1, failures=0, message="no connection with geheim"
    )
    result = build_of(node, is_built=False)
    assert answer_of(lambda: result, clean)["failed"] == ["orders: error no connection with ***"]


def test_a_failed_test_names_the_first_keys() -> None:
    node = NodeRun(
        name="net", kind="test", status="fail", seconds=0.1, failures=9, message="Got 9", keys="merchant_id=m"
    )
    result = build_of(node, is_built=True)
    assert answer_of(lambda: result, clean)["failed"] == ["net: fail Got 9 (the first: merchant_id=m)"]


def test_what_is_left_out_is_said_in_sentences() -> None:
    result = SimpleNamespace(
        build_id="b",
        cuts={"pod1": 1},
        is_complete=True,
        is_built=True,
        nodes=[],
        seconds=1.0,
        left_out=[SimpleNamespace(sentence="m/payment/p (version 2: the version before it is missing)")],
        warnings=["1 event of order came under schema version 1."],
    )
    answer = answer_of(lambda: result, clean)
    assert answer["left_out"] == ["m/payment/p (version 2: the version before it is missing)"]
    assert answer["warnings"] == ["1 event of order came under schema version 1."]
