"""What a person says of a decision has limits, wherever it is said."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.app import app

LONG_REASON, LONG_NAME = "x" * 2_001, "x" * 501


@pytest.mark.parametrize(
    ("arguments", "option", "problem"),
    [
        (["breaks", "accept", "3", "--reason", LONG_REASON], "--reason", "2,001 characters"),
        (["breaks", "reopen", "3", "--reason", "a\x01b"], "--reason", "U+0001"),
        (["breaks", "assign", "3", "--to", LONG_NAME], "--to", "501 characters"),
        (["breaks", "assign", "3", "--to", "ann", "--by", "\udcff"], "--by", "U+DCFF"),
        (["breaks", "correct", "3", "--reason", LONG_REASON], "--reason", "2,001 characters"),
        (["breaks", "approve-restatement", "3", "--reason", "mine", "--by", LONG_NAME], "--by", "501 characters"),
        (["parked", "skip", "account_view", "a/order/b", "--reason", LONG_REASON], "--reason", "2,001 characters"),
        (["imports", "give-up", "3", "--reason", LONG_REASON], "--reason", "2,001 characters"),
        (["close", "2026-03", "--by", LONG_NAME], "--by", "501 characters"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_what_is_too_long_or_no_text_is_refused_before_anything_is_opened(
    arguments: list[str], option: str, problem: str
) -> None:
    done = CliRunner().invoke(app, arguments)
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2, said
    assert f"Invalid value for '{option}': it" in said and problem in said
