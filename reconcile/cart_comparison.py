"""Valkey's carts <-> those of their pods, both ways, by version vectors and by content.

A cart is compared as it stands: there is no cut, because a cart has no events. What differs is looked at again after
the time in which it must have been written through; only what then still differs, and has not been changed meanwhile,
counts. So a difference is never a cart that is merely on its way.

This module reads both sides with SQL and a reader of states of its own. Belongs here: that comparison. Does not belong
here: reading Valkey (the caller passes it in), merging (`oltp/domain/carts.py`), the repair
(`stack/composition/carts.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

import psycopg

from contracts.carts import CartKey
from contracts.text import counted
from contracts.verdicts import Verdict

AT_ONCE = 500

_PAGE = """
select carts.merchant_id, carts.cart_id::text from oltp.carts
inner join oltp.residents on carts.merchant_id = residents.merchant_id
where (carts.merchant_id, carts.cart_id) > (%s, %s) order by carts.merchant_id, carts.cart_id limit %s
"""
_SOME = """
select merchant_id, cart_id::text, state::text from oltp.carts
where (merchant_id, cart_id) in (select * from unnest(%s::text[], %s::uuid[]))
"""
_AHEAD = """
select merchant_id, cart_id::text from oltp.carts
where is_ahead and (merchant_id, cart_id) in (select * from unnest(%s::text[], %s::uuid[]))
"""
_RESIDENTS = "select merchant_id from oltp.residents where merchant_id = any(%s)"
_FIRST = "00000000-0000-0000-0000-000000000000"

States = Mapping[CartKey, bytes | str]


class CartClass(StrEnum):
    """How a cart differs."""

    MISSING = "missing"
    """Valkey has it, its pod does not."""
    BEHIND = "behind"
    """Its pod lacks changes that Valkey has."""
    STALE = "stale"
    """Valkey lacks changes that its pod has."""
    APART = "apart"
    """Each has changes that the other lacks."""
    DIFFERENT = "different"
    """Both say to contain the same changes, and hold other units: somebody wrote past the rules."""
    UNREADABLE = "unreadable"
    """A state cannot be read."""


MERGED = frozenset({CartClass.MISSING, CartClass.BEHIND, CartClass.STALE, CartClass.APART})
"""What a merge repairs. The others go to a person: a merge would hide which side is right."""


BROUGHT_BACK = frozenset({CartClass.STALE, CartClass.APART})
"""How a cart differs that was changed in its pod while Valkey was away: its row says so, until Valkey has it."""


@dataclass(frozen=True, kw_only=True)
class CartDifference:
    """One cart that differs."""

    key: CartKey
    kind: CartClass


@dataclass(frozen=True, kw_only=True)
class CartFindings:
    """What the comparison of one pod's carts found."""

    pod: str
    verdict: Verdict
    compared: int
    differences: tuple[CartDifference, ...] = ()
    changing: int = 0
    """Carts that differed at both looks and were changed in between: neither equal nor wrong."""
    waiting: int = 0
    """Carts that differ and wait to be written to the pod, or to be brought back to Valkey, which was away when they
    were changed. The writer does so when it can: late, not wrong."""
    undecided: tuple[CartKey, ...] = ()
    """Those that wait or were changed: the comparison says nothing of them."""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """Return the result for people."""
        said = f"{self.pod}: {self.verdict}, {counted(self.compared, 'cart')} compared"
        kinds = {kind: sum(1 for item in self.differences if item.kind is kind) for kind in CartClass}
        found = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)
        late = f"{self.waiting:,} not written to the other store yet" if self.waiting else ""
        return f"{'; '.join(filter(None, (said, found, late, self.reason)))}."


@dataclass(frozen=True, kw_only=True)
class CartSides:
    """Both sides of one pod's carts."""

    pod: str
    reader_dsn: str
    valkey_page: Callable[[int], tuple[int, Sequence[CartKey]]]
    """(Cursor, 0 to begin) -> the next cursor, 0 at the end, and the keys of some carts in Valkey."""
    valkey_states: Callable[[Iterable[CartKey]], States]
    waiting: Callable[[Iterable[CartKey]], Collection[CartKey]] = lambda keys: ()
    """Which of these carts wait in Valkey to be written to the pod."""


@dataclass(frozen=True, kw_only=True)
class CartStore:
    """Both sides of one pod's carts, and the times that a comparison of them needs."""

    sides: CartSides
    age_days: int
    """A cart that nobody has changed for so long counts as empty."""
    settled_seconds: float
    """What was changed so long ago has been written through."""


@dataclass(kw_only=True)
class CartSweep:
    """Where a comparison that looks at a part each time goes on. It begins anew at the end."""

    most: int = 500
    """How many carts of each side one comparison looks at."""
    last: tuple[str, str] = ("", _FIRST)
    """The last row of the pod: merchant and cart."""
    cursor: int = 0
    """Of Valkey's keys."""


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A state as this module reads it."""

    seen: Mapping[str, int]
    number: int
    units: Mapping[str, int]


def compare_carts(
    sides: CartSides,
    *,
    is_expired: Callable[[int], bool],
    wait: Callable[[], object],
    sweep: CartSweep | None = None,
    is_covered: Callable[[str], bool] | None = None,
) -> CartFindings:
    """Compare a pod's carts. `is_expired`: of a cart that was changed last then, in milliseconds; such a cart counts as
    empty on both sides. `wait`: lets the time pass in which what is under way arrives. `sweep`: look at the next part
    of the carts, and note where it ends; None: look at all. `is_covered`: look at those whose id it takes.
    """
    try:
        with psycopg.connect(sides.reader_dsn, autocommit=True) as connection:
            compared = 0
            first: dict[CartKey, tuple[CartClass, Any]] = {}
            pages = _pages(connection, sides, sweep, is_covered or (lambda _: True))
            for some, durable, fast in pages:
                compared += len(some)
                first |= _differing(some, durable, fast, is_expired)
            if not first:
                return CartFindings(pod=sides.pod, verdict=Verdict.CONSISTENT, compared=compared)
            wait()
            second: dict[CartKey, tuple[CartClass, Any]] = {}
            for some in _batches(sorted(first)):
                states = sides.valkey_states(some)
                second |= _differing(some, _rows(connection, some), states, is_expired)
            late = set(sides.waiting([key for key, what in second.items() if what[0] in MERGED]))
            late |= _ahead(connection, [key for key, what in second.items() if what[0] in BROUGHT_BACK])
    except Exception as error:  # any error: the comparison could not be made, which is no pass
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return CartFindings(pod=sides.pod, verdict=Verdict.UNKNOWN, compared=0, reason=reason)
    lasting = [key for key, what in second.items() if what == first[key] and key not in late]
    differences = tuple(CartDifference(key=key, kind=second[key][0]) for key in lasting)
    changing = len(second) - len(lasting) - len(late)
    return CartFindings(
        pod=sides.pod,
        verdict=Verdict.INCONSISTENT if differences else Verdict.LATE if changing or late else Verdict.CONSISTENT,
        compared=compared,
        differences=differences,
        changing=changing,
        waiting=len(late),
        undecided=tuple(sorted(set(second) - set(lasting))),
    )


def _pages(
    connection: psycopg.Connection[Any],
    sides: CartSides,
    sweep: CartSweep | None,
    is_covered: Callable[[str], bool],
) -> Iterator[tuple[Sequence[CartKey], States, States]]:
    """Yield carts some at a time with both sides' states: those of the pod, then those that only Valkey has."""
    place = sweep or CartSweep()
    looked = 0
    while rows := connection.execute(_PAGE, (*place.last, AT_ONCE)).fetchall():
        covered = [CartKey(merchant_id=row[0], cart_id=row[1]) for row in rows if is_covered(row[1])]
        yield covered, _rows(connection, covered), sides.valkey_states(covered)
        place.last = (rows[-1][0], rows[-1][1])
        looked += len(rows)
        if sweep is not None and looked >= sweep.most:
            break
    else:
        place.last = ("", _FIRST)
    looked = 0
    while True:
        place.cursor, names = sides.valkey_page(place.cursor)
        listed = [key for key in names if is_covered(key.cart_id)]
        here = _residents(connection, listed)
        for some in _batches([key for key in listed if key.merchant_id in here]):
            durable = _rows(connection, some)
            lacking = [key for key in some if key not in durable]
            yield lacking, {}, sides.valkey_states(lacking)
        looked += len(names)
        if place.cursor == 0 or (sweep is not None and looked >= sweep.most):
            return


def _differing(
    keys: Iterable[CartKey], durable: States, fast: States, is_expired: Callable[[int], bool]
) -> dict[CartKey, tuple[CartClass, Any]]:
    """Return the carts that differ: how, and both states, by which we know whether one was changed meanwhile."""
    found = {}
    for key in keys:
        if key in fast and (kind := _class_of(durable.get(key), fast[key], is_expired)):
            found[key] = (kind, (durable.get(key), fast[key]))
    return found


def _class_of(durable: bytes | str | None, fast: bytes | str, is_expired: Callable[[int], bool]) -> CartClass | None:
    one = _read(fast, is_expired)
    if one is None:
        return CartClass.UNREADABLE
    if durable is None:
        return CartClass.MISSING if one.seen else None
    other = _read(durable, is_expired)
    if other is None:
        return CartClass.UNREADABLE
    if _lacks(other, one):
        return CartClass.APART if _lacks(one, other) else CartClass.BEHIND
    if _lacks(one, other):
        return CartClass.STALE
    return CartClass.DIFFERENT if one.units != other.units else None


def _lacks(one: _Read, other: _Read) -> bool:
    """Return whether `one` lacks a change that `other` has."""
    return one.number < other.number or any(n > one.seen.get(actor, 0) for actor, n in other.seen.items())


def _read(state: bytes | str, is_expired: Callable[[int], bool]) -> _Read | None:
    """Return a state, an expired one as empty; None when it cannot be read. Reads both formats there are."""
    try:
        values = json.loads(state)
        seen = {str(actor): int(n) for actor, n in values["seen"].items()}
        number, touched_ms = int(values["number"]), int(values["touched_ms"])
        if values["format"] == 1:
            units = {sku: sum(dot[2] for dot in dots) for sku, dots in values["lines"].items()}
        elif values["format"] == 2:
            units = {sku: sum(map(_units, runs.values())) for sku, runs in values["lines"].items()}
        else:
            return None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    if touched_ms and is_expired(touched_ms):
        return _Read(seen={}, number=number, units={})
    return _Read(seen=seen, number=number, units=units)


def _units(runs: Sequence[Sequence[int]]) -> int:
    return sum(count * quantity for _, count, quantity in runs)


def _rows(connection: psycopg.Connection[Any], keys: Sequence[CartKey]) -> dict[CartKey, str]:
    columns = [key.merchant_id for key in keys], [key.cart_id for key in keys]
    rows = connection.execute(_SOME, columns).fetchall()
    return {CartKey(merchant_id=merchant_id, cart_id=cart_id): state for merchant_id, cart_id, state in rows}


def _ahead(connection: psycopg.Connection[Any], keys: Sequence[CartKey]) -> set[CartKey]:
    """Return which of these carts wait in the pod to be brought back to Valkey."""
    columns = [key.merchant_id for key in keys], [key.cart_id for key in keys]
    rows = connection.execute(_AHEAD, columns).fetchall() if keys else []
    return {CartKey(merchant_id=merchant_id, cart_id=cart_id) for merchant_id, cart_id in rows}


def _residents(connection: psycopg.Connection[Any], keys: Sequence[CartKey]) -> set[str]:
    merchants = list({key.merchant_id for key in keys})
    return {merchant_id for (merchant_id,) in connection.execute(_RESIDENTS, (merchants,)).fetchall()}


def _batches(keys: Iterable[CartKey]) -> Iterator[list[CartKey]]:
    rest = iter(keys)
    while some := list(islice(rest, AT_ONCE)):
        yield some
