"""Carts in the merchant's pod: read, and written by merging, so that a write may be repeated and come late.

Every write locks the cart's row, merges what is there with what comes, and stores the result. So several writers, a
writer that repeats, and an order that closes the cart never undo each other. A row whose cart has expired counts as
empty, and what comes expired is not written.

Belongs here: the table `oltp.carts`. Does not belong here: when something is written (`writer.py`,
`cart_requests.py`), the order that a cart becomes (`oltp/commands/check_out_cart.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from contracts.carts import CartKey
from contracts.errors import CartUnavailableError, CartUnreadableError, PodFencedError
from oltp.carts.actors import new_incarnation
from oltp.commands.execute import CommandPod
from oltp.domain.cart_codec import decoded, encoded
from oltp.domain.carts import EMPTY, MILLISECONDS, Cart, is_expired, merge
from oltp.transaction import Row

ANSWER_SECONDS = 2.0
"""A shopper waits for the page, so a pod whose connections are all in use counts as away soon."""

_COLUMNS = "merchant_id, cart_id::text, state::text, incarnation"
_LOAD = f"select {_COLUMNS} from oltp.carts where merchant_id = %s and cart_id = %s"
# A cart whose row was removed, or that began while its pod was away, does not use the number of an earlier order again.
_NUMBERS = """
select merchant_id, cart_id::text, max(number) + 1 from oltp.cart_orders
where (merchant_id, cart_id) in (select * from unnest(%s::text[], %s::uuid[])) group by 1, 2
"""
_LOCK = f"""
select {_COLUMNS} from oltp.carts where (merchant_id, cart_id) in (select * from unnest(%s::text[], %s::uuid[]))
order by merchant_id, cart_id for update
"""
_INSERT = """
insert into oltp.carts (merchant_id, cart_id, number, vector, state, incarnation, is_ahead, touched_at)
values (%(merchant_id)s, %(cart_id)s, %(number)s, %(state)s::jsonb -> 'seen', %(state)s::jsonb, %(incarnation)s,
        %(is_ahead)s, to_timestamp(%(touched_ms)s / 1000.0))
on conflict do nothing
"""
_UPDATE = """
update oltp.carts set
    number = %(number)s, vector = %(state)s::jsonb -> 'seen', state = %(state)s::jsonb, incarnation = %(incarnation)s,
    is_ahead = is_ahead or %(is_ahead)s, touched_at = to_timestamp(%(touched_ms)s / 1000.0),
    written_at = clock_timestamp()
where merchant_id = %(merchant_id)s and cart_id = %(cart_id)s
"""
_RESIDENTS = "select merchant_id from oltp.residents where merchant_id = any(%s)"
_AHEAD = f"select {_COLUMNS} from oltp.carts where is_ahead order by merchant_id, cart_id limit %s"
_NOT_AHEAD = """
update oltp.carts set is_ahead = false
where merchant_id = %(merchant_id)s and cart_id = %(cart_id)s and vector = %(state)s::jsonb -> 'seen'
"""
_EXPIRE = """
delete from oltp.carts where (merchant_id, cart_id) in (
    select merchant_id, cart_id from oltp.carts where touched_at < to_timestamp(%s / 1000.0)
    order by touched_at limit %s for update skip locked
)
"""


class PodAwayError(CartUnavailableError):
    """The database of the cart's pod cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class DurableCart:
    """A cart as a pod stores it."""

    key: CartKey
    cart: Cart
    """What counts: empty when the row's cart has expired."""
    incarnation: str
    row: Cart
    """What the row holds."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of carts that were to be written."""

    merged: Mapping[CartKey, Cart]
    """What the pod has now."""
    refused: Mapping[CartKey, str]
    """What the pod cannot take or read, with the reason."""
    elsewhere: Sequence[CartKey]
    """Carts whose merchant does not live in the pod."""


@dataclass(frozen=True, kw_only=True)
class DurableCarts:
    """The carts of one pod. Raises PodAwayError when it cannot be reached."""

    pod: CommandPod
    age_days: int

    def load(self, key: CartKey) -> Cart | None:
        """Return a cart; None when the pod has none, or an expired one."""
        with self._transaction() as connection:
            row = connection.execute(_LOAD, (key.merchant_id, key.cart_id)).fetchone()
            number = _numbers(connection, [key]).get(key, 1)
        if row is not None and not is_expired(cart := _read(row).cart, self._now_ms(), self.age_days):
            return cart
        return Cart(number=number) if number > 1 else None

    def write(self, carts: Mapping[CartKey, Cart]) -> Written:
        """Merge these carts with the stored ones, in one transaction; if one of them is refused, each in its own.

        An expired one is left out.
        """
        now_ms = self._now_ms()
        carts = {key: cart for key, cart in carts.items() if not is_expired(cart, now_ms, self.age_days)}
        try:
            return self._write(carts)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(carts) == 1:
                reason = str(error).strip().splitlines()[0]
                return Written(merged={}, refused=dict.fromkeys(carts, reason), elsewhere=())
        parts = [self.write({key: cart}) for key, cart in carts.items()]
        return Written(
            merged={key: cart for part in parts for key, cart in part.merged.items()},
            refused={key: reason for part in parts for key, reason in part.refused.items()},
            elsewhere=[key for part in parts for key in part.elsewhere],
        )

    def change(self, key: CartKey, step: Callable[[Cart, str], Cart]) -> Cart:
        """Change a cart here, because Valkey is away. `step`: (cart, incarnation) -> the next state."""
        with self._transaction() as connection:
            if not _residents(connection, [key.merchant_id]):
                raise PodFencedError(f"Merchant {key.merchant_id!r} does not live in {self.pod.pod}.")
            beginning = _values(_beginning(key, EMPTY), is_ahead=True)
            connection.execute(_INSERT, beginning)
            (stored,) = self._locked(connection, [key]).values()
            if isinstance(stored, str):
                raise CartUnreadableError(stored)
            changed = step(stored.cart, stored.incarnation)
            if changed != stored.row:
                connection.execute(_UPDATE, _values(replace(stored, cart=changed), is_ahead=True))
        return changed

    def ahead(self, most: int) -> list[DurableCart]:
        """Return carts that may have changes which Valkey's states do not have; unreadable ones are left out."""
        with self._transaction() as connection:
            rows = connection.execute(_AHEAD, (most,)).fetchall()
        return [read for row in rows if not isinstance(read := _read_or_reason(row), str)]

    def no_longer_ahead(self, carts: Sequence[DurableCart]) -> None:
        """Note that Valkey has these states; a row that was changed since they were read stays ahead."""
        with self._transaction() as connection:
            for stored in carts:
                connection.execute(_NOT_AHEAD, _values(stored, is_ahead=False))

    def expire(self, before_ms: int, most: int) -> int:
        """Delete up to `most` carts that nobody has changed since then; return how many."""
        with self._transaction() as connection:
            return connection.execute(_EXPIRE, (before_ms, most)).rowcount

    def _write(self, carts: Mapping[CartKey, Cart]) -> Written:
        keys = sorted(carts)
        with self._transaction() as connection:
            here = _residents(connection, [key.merchant_id for key in keys])
            ours = [key for key in keys if key.merchant_id in here]
            merged, refused = {}, {}
            for key in ours:
                connection.execute(_INSERT, _values(_beginning(key, carts[key]), is_ahead=False))
            for key, stored in self._locked(connection, ours).items():
                if isinstance(stored, str):
                    refused[key] = stored
                    continue
                merged[key] = merge(stored.cart, carts[key])
                if merged[key] != stored.row:
                    connection.execute(_UPDATE, _values(replace(stored, cart=merged[key]), is_ahead=False))
        elsewhere = [key for key in keys if key.merchant_id not in here]
        return Written(merged=merged, refused=refused, elsewhere=elsewhere)

    def _locked(self, connection: psycopg.Connection[Row], keys: Sequence[CartKey]) -> dict[CartKey, DurableCart | str]:
        """Lock the rows of these carts; return each, or why it cannot be read. An expired one is empty."""
        columns = [key.merchant_id for key in keys], [key.cart_id for key in keys]
        found: dict[CartKey, DurableCart | str] = {}
        rows = connection.execute(_LOCK, columns).fetchall()
        numbers = _numbers(connection, keys)
        for row in rows:
            read = _read_or_reason(row)
            key = CartKey(merchant_id=row[0], cart_id=row[1])
            if not isinstance(read, str):
                numbered = Cart(number=numbers.get(key, 1))
                if is_expired(read.cart, self._now_ms(), self.age_days):
                    # It begins anew, so its events need new names.
                    read = replace(read, cart=EMPTY, incarnation=new_incarnation())
                read = replace(read, cart=merge(read.cart, numbered))
            found[key] = read
        return found

    def _now_ms(self) -> int:
        return int(self.pod.clock().timestamp() * MILLISECONDS)

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Row]]:
        try:
            with self.pod.connections.connection(timeout=ANSWER_SECONDS) as connection:
                yield connection
        except PoolTimeout:
            raise PodAwayError(f"{self.pod.pod}'s database gave no connection within {ANSWER_SECONDS:.0f} s.") from None
        except psycopg.OperationalError as error:
            with suppress(psycopg.OperationalError):
                # Idle connections are probably lost, too.
                self.pod.connections.check()
            reason = (str(error).strip().splitlines() or ["the connection was lost"])[0]
            raise PodAwayError(f"{self.pod.pod}'s database cannot be reached: {reason}") from None


def _residents(connection: psycopg.Connection[Row], merchant_ids: Sequence[str]) -> set[str]:
    return {merchant_id for (merchant_id,) in connection.execute(_RESIDENTS, (list(set(merchant_ids)),))}


def _numbers(connection: psycopg.Connection[Row], keys: Sequence[CartKey]) -> dict[CartKey, int]:
    """Return the number after that of the last order, for carts that became orders."""
    rows = connection.execute(_NUMBERS, ([key.merchant_id for key in keys], [key.cart_id for key in keys])).fetchall()
    return {CartKey(merchant_id=merchant_id, cart_id=cart_id): number for merchant_id, cart_id, number in rows}


def _read(row: Row) -> DurableCart:
    merchant_id, cart_id, state, incarnation = row
    key = CartKey(merchant_id=merchant_id, cart_id=cart_id)
    cart = decoded(state)
    return DurableCart(key=key, cart=cart, incarnation=incarnation, row=cart)


def _beginning(key: CartKey, cart: Cart) -> DurableCart:
    return DurableCart(key=key, cart=cart, incarnation=new_incarnation(), row=cart)


def _read_or_reason(row: Row) -> DurableCart | str:
    try:
        return _read(row)
    except CartUnreadableError as error:
        return str(error)


def _values(stored: DurableCart, *, is_ahead: bool) -> dict[str, Any]:
    return {
        "merchant_id": stored.key.merchant_id,
        "cart_id": stored.key.cart_id,
        "number": stored.cart.number,
        "state": encoded(stored.cart).decode(),
        "incarnation": stored.incarnation,
        "touched_ms": stored.cart.touched_ms,
        "is_ahead": is_ahead,
    }
