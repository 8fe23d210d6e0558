"""The statements of a command as a pgbench script, to measure the same work without Python.

Belongs here: recording the statements of one execution of a command, and rendering them with new ids per transaction.
Does not belong here: running pgbench (`bench/pgbench.py`), comparing (`bench/commands.py`).

Every id of the recorded execution is replaced by an expression with pgbench variables, so that each transaction of the
script writes its own rows. The script is for prepared mode (`pgbench --protocol=prepared`): as with the commands,
PostgreSQL parses and plans each statement once per connection.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

FIRST_NUMBER = 100_000_000_000
"""Twelve digits, so that a counter fills the last group of a UUID."""

MARK = "999999999999"
"""The end of every recorded id, by which it is found again."""

PRELUDE = """\
\\set client 8000 + :client_id
\\set number :number + 1
"""
"""`number` starts with the value of -D and grows with each transaction of a client."""


@dataclass
class Recorder:
    """Recognizable ids, and the statements that use them."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    counter: Iterator[int] = field(default_factory=itertools.count)

    def new_uuid(self) -> uuid.UUID:
        """Return the next recognizable id: its second group is a counter, the rest is a marker."""
        return uuid.UUID(f"01a20406-{next(self.counter):04x}-7000-8888-{MARK}")

    def cursor_factory(self) -> type[psycopg.Cursor[Any]]:
        """Return a cursor class that records every statement that it executes."""
        statements = self.statements

        class RecordingCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                text = query.decode() if isinstance(query, bytes) else str(query)
                statements.append((text, params))
                return super().execute(query, params, **options)

        return RecordingCursor


def render(recorder: Recorder, prelude: str, replace: Mapping[str, str], connection: psycopg.Connection[Any]) -> str:
    r"""Return the script; `replace` maps other recorded texts to variables that `prelude` sets with \set.

    `connection` must have the same adapters as the recorded connection, so that values are formatted in the same way.
    """
    patterns = [re.escape(text) for text in sorted(replace, key=len, reverse=True)]
    marker = re.compile(rf"01a20406-[0-9a-f]{{4}}-7000-8888-{MARK}|" + "|".join(patterns))

    def pieces(text: str) -> Iterator[tuple[bool, str]]:
        position = 0
        for match in marker.finditer(text):
            yield False, text[position : match.start()]
            found = match.group()
            if found in replace:
                yield True, replace[found]
            else:
                yield False, found[: len("01a20406-0000-7000-")]
                yield True, "client"
                yield False, "-"
                yield True, "number"
            position = match.end()
        yield False, text[position:]

    # The script has its own commit, as it has its own begin, which the recorder does not see.
    recorded = [(text, params) for text, params in recorder.statements if text != "commit"]
    statements = [_bound(text, params, pieces, connection) for text, params in recorded]
    return "\n".join([PRELUDE, prelude, "begin;", *statements, "commit;", ""])


def _bound(
    text: str,
    params: Any,
    pieces: Callable[[str], Iterator[tuple[bool, str]]],
    connection: psycopg.Connection[Any],
) -> str:
    """Return one statement on one line, with its placeholders filled."""
    if isinstance(params, Mapping):
        values = {name: _literal(value, pieces, connection) for name, value in params.items()}
        filled = re.sub(r"%\((\w+)\)[sbt]", lambda match: values[match.group(1)], text)
    else:
        given = iter(params or ())
        filled = re.sub(r"%[sbt]", lambda _: _literal(next(given), pieces, connection), text)
    return re.sub(r"\s+", " ", filled).strip() + ";"


def _literal(
    value: Any, pieces: Callable[[str], Iterator[tuple[bool, str]]], connection: psycopg.Connection[Any]
) -> str:
    literal = sql.Literal(value).as_string(connection).strip()
    # pgbench interprets a colon before a letter as a variable.
    literal = re.sub(r":(?=[A-Za-z_])", ": ", literal)
    match = re.fullmatch(r"(E?)'(.*)'((?:::[\w\[\]]+)?)", literal, re.DOTALL)
    if match is None or not any(is_variable for is_variable, _ in pieces(match.group(2))):
        return literal
    prefix, body, cast = match.groups()
    parts = [f":{piece}::text" if is_variable else f"{prefix}'{piece}'" for is_variable, piece in pieces(body) if piece]
    return f"({' || '.join(parts)}){cast}"
