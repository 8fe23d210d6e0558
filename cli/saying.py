"""What a person says of a decision: why, and who decides. It is kept for ever, so it has limits.

Belongs here: checking these options. Does not belong here: what is decided.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from contracts.limits import NOTE, TITLE, Text


def _within(limit: Text) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is not None and (problem := limit.problem(value)) is not None:
            raise typer.BadParameter(f"it {problem}.")
        return value

    return check


is_reason = _within(NOTE)
"""Of an option: a text as long as the reasons that events carry."""
is_name = _within(TITLE)
"""Of an option: the name of a person or a team."""
