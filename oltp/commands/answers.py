"""How the answers of commands are stored beside their keys, for years: with the schema version of the state in them.

A client that repeats a command after the state type has a newer version gets its answer as the newest one. Of version 1
nothing is said: answers were stored so before there were versions.

Belongs here: that form, and reading it. Does not belong here: who stores and asks (`execute.py`).
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

import msgspec

from contracts.errors import StackError
from contracts.events.common import AggregateState
from contracts.events.upcasting import UnreadableEventError, upcast

VERSION = "$schema_version"
"""The name under which a stored state says its version; no field is called so."""


def encoded(answer: Any) -> msgspec.Raw:
    """Return an answer as JSON, as it is stored."""
    if isinstance(answer, list):
        return msgspec.Raw(msgspec.json.encode([encoded(part) for part in answer]))
    text = msgspec.json.encode(answer)
    if not isinstance(answer, AggregateState) or answer.SCHEMA_VERSION == 1:
        return msgspec.Raw(text)
    return msgspec.Raw(msgspec.json.encode({VERSION: answer.SCHEMA_VERSION} | msgspec.json.decode(text)))


def decoded(text: str, answer_type: Any) -> Any:
    """Return a stored answer as what commands answer with now; StackError when this program cannot read it."""
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
