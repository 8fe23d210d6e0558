"""How the answer of a command is stored with its idempotency key: as JSON with the schema version of its state.

Answers are kept for years. When the state type has a newer version by then, a client that repeats its command gets the
stored answer converted to the newest version. Version 1 is not written down, because answers were stored without a
version at first.

Belongs here: that format, and reading it. Does not belong here: storing and looking up (`execute.py`).
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

import msgspec

from contracts.errors import StackError
from contracts.events.common import AggregateState
from contracts.events.upcasting import UnreadableEventError, upcast

VERSION = "$schema_version"
"""The JSON key that holds the schema version in a stored state; no field has this name."""


def encoded(answer: Any) -> msgspec.Raw:
    """Return an answer as the JSON that is stored."""
    if isinstance(answer, list):
        return msgspec.Raw(msgspec.json.encode([encoded(part) for part in answer]))
    text = msgspec.json.encode(answer)
    if not isinstance(answer, AggregateState) or answer.SCHEMA_VERSION == 1:
        return msgspec.Raw(text)
    # A state has fields, so its JSON goes on after the brace.
    return msgspec.Raw(b'{"%s":%d,%s' % (VERSION.encode(), answer.SCHEMA_VERSION, text[1:]))


def decoded(text: str, answer_type: Any) -> Any:
    """Return a stored answer as the command's present answer type; StackError when this program cannot read it."""
    state_type = get_args(answer_type)[0] if get_origin(answer_type) is list else answer_type
    if not issubclass(state_type, AggregateState):
        return msgspec.json.decode(text, type=answer_type)
    try:
        stored = msgspec.json.decode(text)
        if isinstance(stored, list):
            return [_newest(state_type, part) for part in stored]
        return _newest(state_type, stored)
    except (UnreadableEventError, msgspec.MsgspecError) as error:
        raise StackError(
            f"The stored answer of this command cannot be read: {error}. What it did is done and stays; "
            "another version of this program stored the answer."
        ) from None


def _newest(state_type: type[AggregateState], stored: dict[str, Any]) -> AggregateState:
    version = stored.pop(VERSION, 1)
    return msgspec.convert(upcast(state_type, version, stored), state_type)
