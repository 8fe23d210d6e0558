"""Bringing calls to the payment provider to their end that nobody waits for any more: what a schedule runs.

Belongs here: finding them, and going on where they were left. Does not belong here: what going on means
(`oltp/commands/asking.py`), when it runs (`orchestration/`).

Captures, voids and refunds are completed: their answer was promised. An authorization is given up, because its buyer
has gone: the provider is asked again under the same key, which tells the reference, and then to void it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import psycopg

from contracts.errors import GatewayDeclinedError, TieoutError
from oltp.commands.execute import Command, CommandPod, request_of, run_request
from oltp.commands.register import COMMANDS
from oltp.store.provider_calls import LeftBehind, left_behind

LEFT_AFTER = timedelta(minutes=10)
"""How old a call must be before nobody is taken to wait for it: longer than any client repeats a command."""

UNSETTLED_SECONDS_MIN = 60.0
"""Younger calls are under way: their callers wait for them."""

UNSETTLED = """
select count(*), coalesce(extract(epoch from clock_timestamp() - min(asked_at)), 0)::float8
from oltp.provider_calls where asked_at < clock_timestamp() - make_interval(secs => %s)
"""

_COMMANDS: dict[str, type[Command[Any]]] = {command.__name__: command for command in COMMANDS}


@dataclass(frozen=True, kw_only=True)
class Settled:
    """How many calls came to their end, and why others did not, by merchant and key."""

    settled: int
    failures: dict[str, str]


def settle_provider_calls(pod: CommandPod, *, left_after: timedelta = LEFT_AFTER, limit: int = 100) -> Settled:
    """Settle the oldest calls that were left behind, at most `limit`; those that fail are tried again next time."""
    with pod.connections.connection() as connection:
        calls = left_behind(connection, left_after, limit)
    failures = {}
    for call in calls:
        try:
            _settle(pod, call)
        except GatewayDeclinedError:
            continue  # An answer too: nothing moved, and nothing is left of the call.
        except TieoutError as error:
            failures[f"{call.merchant_id}/{call.idempotency_key}"] = str(error)
    return Settled(settled=len(calls) - len(failures), failures=failures)


def unsettled_calls(dsn: str) -> tuple[int, float]:
    """Return how many calls of a pod have had no outcome for a minute or more, and since how many seconds the oldest.

    Money may have moved at the provider of which nothing is recorded here.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((calls, oldest_seconds),) = connection.execute(UNSETTLED, [UNSETTLED_SECONDS_MIN]).fetchall()
    return int(calls), float(oldest_seconds)


def _settle(pod: CommandPod, call: LeftBehind) -> None:
    command = msgspec.json.decode(call.body, type=_COMMANDS[call.command])
    request = request_of(pod, command, idempotency_key=call.idempotency_key)
    run_request(pod, command, msgspec.structs.replace(request, is_abandoned=True))
