"""Finishing calls to the payment provider that no client waits for any more; a schedule runs this.

Belongs here: finding these calls and continuing them. Does not belong here: the steps of a call
(`oltp/commands/asking.py`), when this runs (`orchestration/`).

Captures, voids and refunds are completed, because we have accepted them. An authorization is voided, because its buyer
has left: we repeat the authorization with the same key to get its reference, and then void it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import psycopg

from contracts.errors import GatewayDeclinedError, TieoutError
from oltp.commands.execute import Command, CommandPod, run_request
from oltp.commands.register import COMMANDS
from oltp.commands.requests import request_of
from oltp.store.provider_calls import LeftBehind, left_behind

LEFT_AFTER = timedelta(minutes=10)
"""The age from which we assume that no client waits for a call: clients stop repeating a command earlier."""

UNSETTLED_SECONDS_MIN = 60.0
"""Calls younger than this are not counted, because their clients still wait for them."""

UNSETTLED = """
select count(*), coalesce(extract(epoch from clock_timestamp() - min(asked_at)), 0)::float8
from oltp.provider_calls where asked_at < clock_timestamp() - make_interval(secs => %s)
"""

_COMMANDS: dict[str, type[Command[Any]]] = {command.__name__: command for command in COMMANDS}


@dataclass(frozen=True, kw_only=True)
class Settled:
    """How many calls were settled, and the error of each other call by "merchant/key"."""

    settled: int
    failures: dict[str, str]


def settle_provider_calls(pod: CommandPod, *, left_after: timedelta = LEFT_AFTER, limit: int = 100) -> Settled:
    """Settle the oldest abandoned calls, at most `limit`; calls that fail are tried again in the next run."""
    with pod.connections.connection() as connection:
        calls = left_behind(connection, left_after, limit)
    failures = {}
    for call in calls:
        try:
            _settle(pod, call)
        except GatewayDeclinedError:
            continue  # A decline settles the call too: no money moved, and the call is deleted.
        except TieoutError as error:
            failures[f"{call.merchant_id}/{call.idempotency_key}"] = str(error)
    return Settled(settled=len(calls) - len(failures), failures=failures)


def unsettled_calls(dsn: str) -> tuple[int, float]:
    """Return the number of a pod's calls without an outcome for a minute or more, and the age of the oldest in seconds.

    For these calls the provider may have moved money that is not recorded here.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((calls, oldest_seconds),) = connection.execute(UNSETTLED, [UNSETTLED_SECONDS_MIN]).fetchall()
    return int(calls), float(oldest_seconds)


def _settle(pod: CommandPod, call: LeftBehind) -> None:
    command = msgspec.json.decode(call.body, type=_COMMANDS[call.command])
    request = request_of(pod, command, idempotency_key=call.idempotency_key)
    run_request(pod, command, msgspec.structs.replace(request, is_abandoned=True))
