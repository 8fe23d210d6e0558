"""Endpoints for webhooks in the control database, beside the API keys: they belong to a merchant, wherever it lives.

Only this module writes `webhooks.endpoints`. What it changes takes effect in a pod from the next cut that is noted
there (`derived/webhooks/subscribing.py`).

Belongs here: statements on endpoints, and repeating a request without doing it twice. Does not belong here: what was
sent to an endpoint.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from api.repeated import require_same
from contracts.clock import Clock, utc_now
from contracts.errors import (
    CommandUnderWayError,
    ConflictError,
    InputError,
    NotFoundError,
    PreconditionError,
    StackError,
)
from contracts.limits import TITLE
from contracts.text import counted
from contracts.webhooks import EVENT_TYPES, secret_of, shown, url_problem

OVERLAP = timedelta(hours=24)
"""How long messages are signed with the earlier secret, too, unless the caller says otherwise."""
OVERLAP_MAX = timedelta(days=30)
ID_PREFIX = "we_"

_COLUMNS: LiteralString = (
    "endpoint_id, merchant_id, url, event_types, description, is_enabled, version, secret_number, earlier_until, "
    "created_at, changed_at"
)
_INSERT = """
insert into webhooks.endpoints (
    endpoint_id, merchant_id, url, event_types, description, is_enabled, version, secret_number, created_at, changed_at
) values (%(endpoint_id)s, %(merchant_id)s, %(url)s, %(event_types)s, %(description)s, %(is_enabled)s, 1, 1, %(now)s,
    %(now)s)
"""
_CHANGE = """
update webhooks.endpoints set url = %(url)s, event_types = %(event_types)s, description = %(description)s,
    is_enabled = %(is_enabled)s, version = version + 1, changed_at = %(now)s
where endpoint_id = %(endpoint_id)s
"""
_REMOVE = """
update webhooks.endpoints set deleted_at = %(now)s, changed_at = %(now)s, version = version + 1, is_enabled = false
where endpoint_id = %(endpoint_id)s
"""
_ROTATE = """
update webhooks.endpoints set secret_number = secret_number + 1, earlier_until = %(until)s, version = version + 1,
    changed_at = %(now)s
where endpoint_id = %(endpoint_id)s
"""
# Of an endpoint that is not parked, what waits is tried now instead of after its pause.
_RESUME = "update webhooks.standings set parked_at = null, parked_because = '' where endpoint_id = %s"
_TRY_NOW = """
update webhooks.deliveries set first_failed_at = null, next_attempt_at = null
where endpoint_id = %s and state = 'waiting' and first_failed_at is not null
"""
_ALONE = "select pg_advisory_xact_lock(hashtext('webhooks.endpoints'), hashtext(%s))"
_KNOWN = "select asked, answer, made_at from webhooks.requests where merchant_id = %s and idempotency_key = %s"
_REMEMBER = """
insert into webhooks.requests (merchant_id, idempotency_key, asked, answer, made_at) values (%s, %s, %s, %s, %s)
on conflict (merchant_id, idempotency_key) do update set answer = excluded.answer, made_at = excluded.made_at
"""
_FORGET = "delete from webhooks.requests where merchant_id = %s and idempotency_key = %s"
UNDER_WAY = timedelta(minutes=2)
"""So long a request that has no answer yet counts as under way; its process has died if it has none by then."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint, without its secret."""

    endpoint_id: str
    merchant_id: str
    url: str = field(repr=False)
    """It may hold a password of its receiver."""
    event_types: list[str]
    description: str
    is_enabled: bool
    version: int
    secret_number: int
    earlier_until: datetime | None
    """Until then messages are signed with the earlier secret, too."""
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an endpoint is to be; None: as it is."""

    url: str | None = None
    event_types: Sequence[str] | None = None
    description: str | None = None
    is_enabled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command on an endpoint did."""

    endpoint: Endpoint
    secret: str | None = field(default=None, repr=False)
    """A new secret; None: there is none, or an earlier request with the same idempotency key has shown it."""
    is_replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class EndpointStore:
    """The endpoints of a system. `master`: what their secrets are computed from."""

    connections: ConnectionPool[psycopg.Connection[Any]]
    master: bytes = field(repr=False)
    open_hosts: Collection[str] = ()
    endpoints_max: int
    clock: Clock = utc_now

    def endpoints(self, merchant_id: str, *, after: str = "", limit: int | None = None) -> list[Endpoint]:
        """Return a merchant's endpoints by id."""
        with self._connect() as connection:
            return _select(
                connection,
                "merchant_id = %s and endpoint_id > %s order by endpoint_id limit %s",
                merchant_id,
                after,
                limit,
            )

    def find(self, merchant_id: str, endpoint_id: str) -> Endpoint:
        """Return one endpoint; NotFoundError."""
        with self._connect() as connection:
            return _found(connection, merchant_id, endpoint_id)

    def register(self, merchant_id: str, wanted: Wanted, *, idempotency_key: str) -> Done:
        """Store a new endpoint and return it with its secret, which is shown this once."""
        types, url = self._checked(wanted)
        if url is None or types is None:
            raise InputError("An endpoint needs an address and types of events.")
        values = {
            "endpoint_id": ID_PREFIX + secrets.token_hex(12),
            "merchant_id": merchant_id,
            "url": url,
            "event_types": types,
            "description": wanted.description or "",
            "is_enabled": wanted.is_enabled is not False,
            "now": self.clock(),
        }

        def do(connection: psycopg.Connection[Any]) -> str:
            number = len(_select(connection, "merchant_id = %s", merchant_id))
            if number >= self.endpoints_max:
                raise ConflictError(
                    f"This merchant has {counted(number, 'endpoint')}, which is as many as it may have."
                )
            connection.execute(_INSERT, values)
            return str(values["endpoint_id"])

        return self._once(merchant_id, idempotency_key, {"do": "register", **_asked(wanted)}, do, shows_secret=True)

    def change(
        self,
        merchant_id: str,
        endpoint_id: str,
        wanted: Wanted,
        *,
        idempotency_key: str,
        expected_version: int | None = None,
    ) -> Done:
        """Change what `wanted` names. PreconditionError when the endpoint has another version than expected."""
        types, url = self._checked(wanted)

        def do(connection: psycopg.Connection[Any]) -> str:
            present = _found(connection, merchant_id, endpoint_id)
            if expected_version is not None and present.version != expected_version:
                raise PreconditionError(f"The endpoint has version {present.version}, not {expected_version}.")
            values = {
                "endpoint_id": endpoint_id,
                "url": present.url if url is None else url,
                "event_types": present.event_types if types is None else types,
                "description": present.description if wanted.description is None else wanted.description,
                "is_enabled": present.is_enabled if wanted.is_enabled is None else wanted.is_enabled,
                "now": self.clock(),
            }
            connection.execute(_CHANGE, values)
            return endpoint_id

        return self._once(merchant_id, idempotency_key, {"do": "change", "of": endpoint_id, **_asked(wanted)}, do)

    def remove(self, merchant_id: str, endpoint_id: str, *, idempotency_key: str) -> Done:
        """Remove an endpoint: nothing more is sent to it, and what waited for it is dropped."""

        def do(connection: psycopg.Connection[Any]) -> str:
            _found(connection, merchant_id, endpoint_id)
            connection.execute(_REMOVE, {"endpoint_id": endpoint_id, "now": self.clock()})
            return endpoint_id

        return self._once(merchant_id, idempotency_key, {"do": "remove", "of": endpoint_id}, do)

    def rotate(self, merchant_id: str, endpoint_id: str, overlap: timedelta, *, idempotency_key: str) -> Done:
        """Give an endpoint a new secret; for `overlap` messages are signed with the earlier one, too."""
        if not timedelta(0) <= overlap <= OVERLAP_MAX:
            raise InputError(f"The overlap must be between nothing and {OVERLAP_MAX.days} days.")

        def do(connection: psycopg.Connection[Any]) -> str:
            _found(connection, merchant_id, endpoint_id)
            now = self.clock()
            connection.execute(_ROTATE, {"endpoint_id": endpoint_id, "until": now + overlap, "now": now})
            return endpoint_id

        asked = {"do": "rotate", "of": endpoint_id, "overlap_seconds": int(overlap.total_seconds())}
        return self._once(merchant_id, idempotency_key, asked, do, shows_secret=True)

    def resume(self, merchant_id: str, endpoint_id: str, *, idempotency_key: str) -> Done:
        """Let a parked endpoint go on: what waits for it is sent, in its order, beginning now."""

        def do(connection: psycopg.Connection[Any]) -> str:
            _found(connection, merchant_id, endpoint_id)
            connection.execute(_TRY_NOW, [endpoint_id])
            connection.execute(_RESUME, [endpoint_id])
            return endpoint_id

        return self._once(merchant_id, idempotency_key, {"do": "resume", "of": endpoint_id}, do)

    def once(
        self, merchant_id: str, key: str, asked: dict[str, Any], do: Callable[[], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """Do what takes a while and has transactions of its own, unless a request with the same key did.

        Returns its answer, and whether that is a stored one. CommandUnderWayError while the other request runs.
        """
        with self._connect() as connection, connection.transaction():
            connection.execute(_ALONE, [merchant_id])
            row = connection.execute(_KNOWN, (merchant_id, key)).fetchone()
            if row is not None:
                require_same(key, row[0], asked)
                if row[1] is not None:
                    return row[1], True
                if self.clock() - row[2] < UNDER_WAY:
                    raise CommandUnderWayError(f"A request with idempotency key {key!r} is under way; try again.")
            connection.execute(_REMEMBER, (merchant_id, key, Jsonb(asked), Jsonb(None), self.clock()))
        try:
            answer: dict[str, Any] = msgspec.to_builtins(do())
        except BaseException:
            with self._connect() as connection:
                connection.execute(_FORGET, (merchant_id, key))
            raise
        with self._connect() as connection:
            connection.execute(_REMEMBER, (merchant_id, key, Jsonb(asked), Jsonb(answer), self.clock()))
        return answer, False

    def _checked(self, wanted: Wanted) -> tuple[list[str] | None, str | None]:
        """Return (types, address) of what is wanted; InputError when one of its values is wrong."""
        if wanted.url is not None and (problem := url_problem(wanted.url, self.open_hosts)):
            raise InputError(f"The address {problem}.")
        if wanted.description is not None and (problem := TITLE.problem(wanted.description)):
            raise InputError(f"The description {problem}.")
        if wanted.event_types is None:
            return None, wanted.url
        unknown = sorted(set(wanted.event_types) - set(EVENT_TYPES))
        if unknown or not wanted.event_types:
            raise InputError(f"The types of events must be some of: {', '.join(EVENT_TYPES)}.")
        return sorted(set(wanted.event_types)), wanted.url

    def _once(
        self,
        merchant_id: str,
        key: str,
        asked: dict[str, Any],
        do: Callable[[psycopg.Connection[Any]], str],
        *,
        shows_secret: bool = False,
    ) -> Done:
        """Do it unless an earlier request with the same key did; then return what that one answered."""
        with self._connect() as connection, connection.transaction():
            # One at a time for a merchant: two requests at once neither both do it nor both pass a limit.
            connection.execute(_ALONE, [merchant_id])
            row = connection.execute(_KNOWN, (merchant_id, key)).fetchone()
            if row is not None:
                require_same(key, row[0], asked)
                return Done(endpoint=msgspec.convert(row[1], Endpoint), is_replayed=True)
            endpoint_id = do(connection)
            # The removed one as well: it is the answer.
            (endpoint,) = _select(connection, "endpoint_id = %s", endpoint_id, is_any=True)
            answer = msgspec.to_builtins(endpoint)
            connection.execute(_REMEMBER, (merchant_id, key, Jsonb(asked), Jsonb(answer), self.clock()))
        secret = shown(secret_of(self.master, endpoint_id, endpoint.secret_number)) if shows_secret else None
        return Done(endpoint=endpoint, secret=secret)

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self.connections.connection() as connection:
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            reason = str(error).strip().partition("\n")[0]
            raise StackError(f"The endpoints in the control database cannot be reached: {reason}") from None


def _asked(wanted: Wanted) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}


def _found(connection: psycopg.Connection[Any], merchant_id: str, endpoint_id: str) -> Endpoint:
    found = _select(connection, "merchant_id = %s and endpoint_id = %s", merchant_id, endpoint_id)
    if not found:
        raise NotFoundError(f"There is no endpoint {endpoint_id!r}.")
    return found[0]


def _select(
    connection: psycopg.Connection[Any], where: LiteralString, *values: Any, is_any: bool = False
) -> list[Endpoint]:
    alive: LiteralString = "true" if is_any else "deleted_at is null"
    with connection.cursor(row_factory=class_row(Endpoint)) as cursor:
        query = f"select {_COLUMNS} from webhooks.endpoints where {alive} and {where}"
        return cursor.execute(query, values).fetchall()
