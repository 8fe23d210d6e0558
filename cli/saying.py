"""Checks of the options with which a person gives the reason of a decision and a name.

We keep both permanently, so their length and characters are limited.

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
"""Callback of an option: the text must keep the limits of a reason in an event."""
is_name = _within(TITLE)
"""Callback of an option: the text must be a valid name of a person or a team."""
