"""API keys in the control database, beside the directory: a key must be known before its merchant's pod is.

Belongs here: the table, and its statements. Does not belong here: what processes remember (`api/keys/ring.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from api.declaring import Role
from api.keys.forms import digest_of, new_key, readable
from api.repeated import require_same
from contracts.clock import Clock, utc_now
from contracts.errors import ConflictError, InputError, NotFoundError, StackError
from contracts.limits import TITLE

USES_WRITTEN_EVERY = timedelta(minutes=1)
"""A key's last use is written about this often."""
OVERLAP = timedelta(hours=24)
"""How long a rotated key still works, unless the caller says otherwise."""
OVERLAP_MAX = timedelta(days=90)
REQUESTS_KEPT = timedelta(days=30)
"""So long a request with the same idempotency key is known."""
CONNECT_SECONDS_MAX = 2.0

_MIGRATE = """
create schema if not exists api;
create table if not exists api.keys (
    key_id text primary key,
    -- Null: a key of an operator.
    merchant_id text,
    role text not null check (role in ('storefront', 'admin', 'operator')),
    -- HMAC-SHA256 of the whole key; the key itself is stored nowhere.
    digest bytea not null unique,
    label text not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Written about once a minute.
    last_used_at timestamptz,
    check ((role = 'operator') = (merchant_id is null))
);
create index if not exists keys_by_merchant on api.keys (merchant_id, key_id);
create table if not exists api.key_requests (
    merchant_id text not null,
    idempotency_key text not null,
    -- What was asked for, field by field.
    asked jsonb not null,
    -- The key that the answer is about.
    key_id text not null,
    made_at timestamptz not null,
    primary key (merchant_id, idempotency_key)
);
do $$ begin
    -- Until now a key named the request that made it, and nothing of what that had asked for.
    if exists (select from information_schema.columns where table_schema = 'api' and table_name = 'keys'
               and column_name = 'idempotency_key') then
        insert into api.key_requests (merchant_id, idempotency_key, asked, key_id, made_at)
        select merchant_id, idempotency_key, jsonb_build_object('do', 'create', 'role', role, 'label', label),
               key_id, created_at
        from api.keys where idempotency_key is not null
        on conflict do nothing;
        alter table api.keys drop column idempotency_key;
    end if;
end $$;
"""
_COLUMNS: LiteralString = "key_id, merchant_id, role, label, created_at, expires_at, revoked_at, last_used_at"
_INSERT = """
insert into api.keys (key_id, merchant_id, role, digest, label, created_at)
values (%(key_id)s, %(merchant_id)s, %(role)s, %(digest)s, %(label)s, %(created_at)s)
"""
_ALONE = "select pg_advisory_xact_lock(hashtext('api.key_requests'), hashtext(%s))"
_FORGET = "delete from api.key_requests where merchant_id = %s and made_at < %s"
_KNOWN = "select asked, key_id from api.key_requests where merchant_id = %s and idempotency_key = %s"
_REMEMBER = """
insert into api.key_requests (merchant_id, idempotency_key, asked, key_id, made_at) values (%s, %s, %s, %s, %s)
"""
_REVOKE = """
update api.keys set revoked_at = coalesce(revoked_at, %(now)s)
where key_id = %(key_id)s and (%(merchant_id)s::text is null or merchant_id = %(merchant_id)s)
"""
_EXPIRE = "update api.keys set expires_at = least(expires_at, %(expires_at)s) where key_id = %(key_id)s"
_USED = "update api.keys set last_used_at = greatest(last_used_at, %s) where key_id = %s"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A stored key, without its secret."""

    key_id: str
    merchant_id: str | None
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def readable(self) -> str:
        """The beginning of the key."""
        return readable(self.role, self.key_id)

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, kw_only=True)
class Made:
    """The key of a request; `text` None: it is not new, or an earlier request with the same idempotency key made it."""

    key: Key
    text: str | None = field(repr=False)
    is_replayed: bool = False


def migrate_keys(control_dsn: str) -> None:
    """Create the table in the control database; an existing one stays unchanged."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('api.keys'))")
        connection.execute(_MIGRATE)


@dataclass(frozen=True, kw_only=True)
class KeyStore:
    """The keys of a system. `pepper`: the secret of the digests."""

    control_dsn: str
    pepper: bytes
    clock: Clock = utc_now
    connections: ConnectionPool[psycopg.Connection[Any]] | None = None
    """None: each call connects for itself, as a command of a person does."""

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self.connections.connection() if self.connections else psycopg.connect(self.control_dsn) as connection:
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise _unreachable(error) from None

    def create(self, role: Role, merchant_id: str | None, label: str, *, idempotency_key: str | None = None) -> Made:
        """Store a new key and return it with its text, which nobody can read later."""
        if (role is Role.OPERATOR) != (merchant_id is None):
            raise InputError("A key of an operator has no merchant; every other key has one.")
        if problem := TITLE.problem(label):
            raise InputError(f"The label {problem}.")
        asked = {"do": "create", "role": str(role), "label": label}
        return self._once(
            merchant_id, idempotency_key, asked, lambda connection: self._made(connection, role, merchant_id, label)
        )

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta = OVERLAP,
        merchant_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Made:
        """Store a new key beside this one, which works for `overlap` more; return the new one.

        `merchant_id`: only if the key is this merchant's.
        """
        if not timedelta(0) <= overlap <= OVERLAP_MAX:
            raise InputError(f"The overlap must be between nothing and {OVERLAP_MAX.days} days.")

        def do(connection: psycopg.Connection[Any]) -> Made:
            old = self._found(connection, key_id, merchant_id)
            if not old.is_valid(self.clock()):
                raise ConflictError(f"Key {old.readable} is no longer valid; create a new one.")
            made = self._made(connection, old.role, old.merchant_id, old.label)
            connection.execute(_EXPIRE, {"key_id": key_id, "expires_at": self.clock() + overlap})
            return made

        asked = {"do": "rotate", "of": key_id, "overlap_seconds": int(overlap.total_seconds())}
        return self._once(merchant_id, idempotency_key, asked, do)

    def revoke(self, key_id: str, *, merchant_id: str | None = None, idempotency_key: str | None = None) -> Made:
        """Let a key open nothing any more and return it; a revoked key stays as it is."""

        def do(connection: psycopg.Connection[Any]) -> Made:
            connection.execute(_REVOKE, {"key_id": key_id, "merchant_id": merchant_id, "now": self.clock()})
            return Made(key=self._found(connection, key_id, merchant_id), text=None)

        return self._once(merchant_id, idempotency_key, {"do": "revoke", "of": key_id}, do)

    def keys(self, merchant_id: str | None = None, *, after: str = "", limit: int | None = None) -> list[Key]:
        """Return the keys of a merchant, or all keys, by id."""
        where: LiteralString = "key_id > %s and (%s::text is null or merchant_id = %s) order by key_id limit %s"
        with self._connect() as connection:
            return _select(connection, where, [after, merchant_id, merchant_id, limit])

    def find(self, text: str) -> Key | None:
        """Return the stored key with this text, valid or not; note its use when the last note is old."""
        with self._connect() as connection:
            found = _select(connection, "digest = %s", [digest_of(self.pepper, text)])
            if not found:
                return None
            now, last = self.clock(), found[0].last_used_at
            if found[0].is_valid(now) and (last is None or now - last > USES_WRITTEN_EVERY):
                connection.execute(_USED, (now, found[0].key_id))
            return found[0]

    def _once(
        self,
        merchant_id: str | None,
        idempotency_key: str | None,
        asked: dict[str, Any],
        do: Callable[[psycopg.Connection[Any]], Made],
    ) -> Made:
        """Do it unless an earlier request with the same idempotency key did; then return the key of that one."""
        with self._connect() as connection:
            if merchant_id is None or idempotency_key is None:
                return do(connection)
            # One at a time for a merchant: of two requests with the same key at once, the second finds the first.
            connection.execute(_ALONE, [merchant_id])
            connection.execute(_FORGET, [merchant_id, self.clock() - REQUESTS_KEPT])
            row = connection.execute(_KNOWN, [merchant_id, idempotency_key]).fetchone()
            if row is None:
                made = do(connection)
                values = (merchant_id, idempotency_key, Jsonb(asked), made.key.key_id, self.clock())
                connection.execute(_REMEMBER, values)
                return made
            require_same(idempotency_key, row[0], asked)
            return Made(key=self._found(connection, row[1], merchant_id), text=None, is_replayed=True)

    def _made(self, connection: psycopg.Connection[Any], role: Role, merchant_id: str | None, label: str) -> Made:
        new = new_key(role)
        values = {
            "key_id": new.key_id,
            "merchant_id": merchant_id,
            "role": str(role),
            "label": label,
            "digest": digest_of(self.pepper, new.text),
            "created_at": self.clock(),
        }
        connection.execute(_INSERT, values)
        return Made(key=self._found(connection, new.key_id, merchant_id), text=new.text)

    def _found(self, connection: psycopg.Connection[Any], key_id: str, merchant_id: str | None) -> Key:
        where: LiteralString = "key_id = %s and (%s::text is null or merchant_id = %s)"
        found = _select(connection, where, [key_id, merchant_id, merchant_id])
        if not found:
            raise NotFoundError(f"There is no key {key_id!r}.")
        return found[0]


def _select(connection: psycopg.Connection[Any], where: LiteralString, values: Sequence[Any]) -> list[Key]:
    with connection.cursor(row_factory=kwargs_row(_key)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from api.keys where {where}", values).fetchall()


def _key(*, role: str, **columns: Any) -> Key:
    return Key(role=Role(role), **columns)


def pooled_store(control_dsn: str, pepper: bytes) -> KeyStore:
    """Return the keys for a process that looks them up all the time; close its connections at the end."""
    connections: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        control_dsn, min_size=0, max_size=2, timeout=CONNECT_SECONDS_MAX, open=True, name="api-keys"
    )
    return KeyStore(control_dsn=control_dsn, pepper=pepper, connections=connections)


def _unreachable(error: Exception) -> StackError:
    reason = str(error).strip().partition("\n")[0]
    return StackError(f"The API keys in the control database cannot be reached: {reason}")
