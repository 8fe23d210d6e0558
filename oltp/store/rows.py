"""The only place that converts rows to aggregates, and aggregates to rows.

    find(tx, OrderState, merchant_id, order_id, lock=True)      -> OrderState | None
    load(tx, OrderState, merchant_id, order_id, lock=True)      -> OrderState, or NotFoundError
    load_by(tx, PaymentState, merchant_id, "order_id", value)   -> list[PaymentState], ordered by id
    ask(...), ask_by(...)                                       the same, answered when the result is called
    save(tx, before, after, event_type)                         root row, child rows and event
    save_all(tx, changes)                                       the same for several, few statements
    write(tx, before, after), remove(tx, state)                 rows without an event: only to put back what events say

Belongs here: reading and writing aggregates with the statements of `oltp/store/mapping.py`. Does not belong here: what
changes (`oltp/domain/`), stock counters (`oltp/store/stock.py`).

`lock=True` takes the root `for no key update` and reads the aggregate after it: the way to change one. Where a command
locks several aggregates, the order is: order, payment, refund, reservation, gift card, and stock counters last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from contracts.errors import NotFoundError, PreconditionError
from contracts.events.common import AggregateState, Value
from oltp.outbox import INSERT, Change, insert_parameters, publish_all, publish_kept
from oltp.store.mapping import MAPPINGS, AggregateMapping, ChildMapping, PartRow, insert_statement
from oltp.transaction import CommandTransaction, Expected

State = TypeVar("State", bound=AggregateState)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A write of one aggregate; `before` is None for a new aggregate."""

    before: AggregateState | None
    after: AggregateState


def load(
    tx: CommandTransaction, state_type: type[State], merchant_id: str, aggregate_id: str, *, lock: bool = True
) -> State:
    """Return one aggregate, locked by default; NotFoundError when the merchant has no aggregate with this id."""
    return ask(tx, state_type, merchant_id, aggregate_id, lock=lock)()


def find(
    tx: CommandTransaction, state_type: type[State], merchant_id: str, aggregate_id: str, *, lock: bool = True
) -> State | None:
    """Return one aggregate, locked by default, or None."""
    found = load_by(tx, state_type, merchant_id, state_type.ID_FIELD, aggregate_id, lock=lock)
    return found[0] if found else None


def load_by(
    tx: CommandTransaction, state_type: type[State], merchant_id: str, column: str, value: str, *, lock: bool = True
) -> list[State]:
    """Return the merchant's aggregates whose root has `value` in `column`, ordered (and locked) by id."""
    return ask_by(tx, state_type, merchant_id, column, value, lock=lock)()


def ask(
    tx: CommandTransaction, state_type: type[State], merchant_id: str, aggregate_id: str, *, lock: bool = True
) -> Callable[[], State]:
    """Send the query of `load` and return a function that waits for its answer, so that queries share a round trip."""
    answer = ask_by(tx, state_type, merchant_id, state_type.ID_FIELD, aggregate_id, lock=lock)
    return lambda: required(answer(), state_type, merchant_id, aggregate_id)


def ask_by(
    tx: CommandTransaction, state_type: type[State], merchant_id: str, column: str, value: str, *, lock: bool = True
) -> Callable[[], list[State]]:
    """Send the query of `load_by` and return a function that waits for its answer."""
    mapping = MAPPINGS[state_type]
    if lock:
        tx.lock_alone((state_type, merchant_id, column, value))
        # Lock in a separate statement: the next statement has a new snapshot and sees the changes that we waited for.
        tx.query(mapping.lock(column), (merchant_id, value))
    cursor = tx.query(mapping.select(column), (merchant_id, value))

    def answer() -> list[State]:
        found = [msgspec.json.decode(row[0], type=state_type) for row in cursor.fetchall()]
        if lock and tx.expects is not None:
            _require_version(tx.expects, found, (state_type.AGGREGATE_TYPE, value))
        return found

    return answer


def save(
    tx: CommandTransaction,
    before: State | None,
    after: State,
    event_type: StrEnum,
    extra: Mapping[str, Any] | None = None,
) -> State:
    """Write the change of one step, and its event; return `after`.

    `extra`: values of columns that are in a table but not in the state (the currency of prices).
    """
    save_all(tx, [Change(before=before, after=after, event_type=event_type)], extra)
    return after


def save_all(tx: CommandTransaction, changes: Sequence[Change], extra: Mapping[str, Any] | None = None) -> None:
    """Write several changes: all new aggregates in one statement, then the changed aggregates, then all events.

    Changes of one type stay in the order given; types are written in the order in which they first appear. An aggregate
    may appear only once. When all are new, the same statement inserts their events, after them. In a batch the changes
    are kept back for `write_kept`.
    """
    if tx.kept is not None:
        tx.kept.saves.append((tx, changes, extra or {}))
    elif changes and all(change.before is None for change in changes):
        _insert_new(tx, _by_type(changes), extra or {}, changes)
    else:
        _write_rows(tx, changes, extra or {})
        publish_all(tx, changes)


def write_kept(tx: CommandTransaction) -> None:
    """Write the kept-back changes of a batch, as one `save_all` would; each event carries its command's metadata."""
    saves = tx.kept.saves if tx.kept is not None else []
    for _, group in groupby(saves, key=itemgetter(2)):
        together = list(group)
        _write_rows(tx, [change for _, changes, _ in together for change in changes], together[0][2])
    publish_kept(tx, [(command, change) for command, changes, _ in saves for change in changes])


def write(tx: CommandTransaction, before: State | None, after: State, extra: Mapping[str, Any] | None = None) -> None:
    """Write the difference between two states without an event; the database refuses this without a declared bypass."""
    _write_rows(tx, [Step(before=before, after=after)], extra or {})


def remove(tx: CommandTransaction, state: AggregateState) -> None:
    """Delete an aggregate's rows; the database refuses this without a declared bypass or while keys refer to it."""
    mapping = MAPPINGS[type(state)]
    for child in reversed(mapping.children):
        rows = list(_rows_by_key(mapping, child, state, {}).values())
        for table in reversed(child.tables):
            tx.query(table.delete, (_json(rows),))
    tx.query(mapping.delete, (state.merchant_id, state.aggregate_id))


def _write_rows(tx: CommandTransaction, steps: Sequence[Change | Step], extra: Mapping[str, Any]) -> None:
    by_type = _by_type(steps)
    _insert_new(tx, by_type, extra)
    for mapping, mine in by_type.items():
        if changed := [step for step in mine if step.before is not None]:
            tx.query(mapping.update, (_json([step.after for step in changed]),))
            for child in mapping.children:
                _write_parts(tx, mapping, child, changed, extra)


def _by_type(steps: Sequence[Change | Step]) -> dict[AggregateMapping, list[Change | Step]]:
    by_type: dict[AggregateMapping, list[Change | Step]] = {}
    for step in steps:
        by_type.setdefault(MAPPINGS[type(step.after)], []).append(step)
    return by_type


def advance(tx: CommandTransaction, state: AggregateState) -> None:
    """Give a locked aggregate's root its next version and change nothing else; the caller must publish the event."""
    tx.query(MAPPINGS[type(state)].advance, (state.merchant_id, state.aggregate_id))


def _insert_new(
    tx: CommandTransaction,
    by_type: Mapping[AggregateMapping, Sequence[Change | Step]],
    extra: Mapping[str, Any],
    published: Sequence[Change] = (),
) -> None:
    """Insert the new aggregates; `published`: insert these events in the same statement, after the aggregates."""
    created = {
        mapping: states
        for mapping, changes in by_type.items()
        if (states := [change.after for change in changes if change.before is None])
    }
    if created:
        events = insert_parameters(tx, published) if published else []
        given = [text for states in created.values() for text in (_json(extra), _json(states))]
        tx.query(insert_statement(tuple(created), INSERT if published else ""), [*events, *given])


def _write_parts(
    tx: CommandTransaction,
    mapping: AggregateMapping,
    child: ChildMapping,
    changes: Sequence[Change | Step],
    extra: Mapping[str, Any],
) -> None:
    added: list[PartRow] = []
    changed: list[tuple[PartRow, PartRow]] = []
    removed: list[PartRow] = []
    for change in changes:
        if change.before is None or getattr(change.before, child.field) == getattr(change.after, child.field):
            continue
        old = _rows_by_key(mapping, child, change.before, extra)
        new = _rows_by_key(mapping, child, change.after, extra)
        added += [row for key, row in new.items() if key not in old]
        changed += [(old[key], row) for key, row in new.items() if key in old and old[key] != row]
        removed += [row for key, row in old.items() if key not in new]
    for table in reversed(child.tables):
        if removed:
            tx.query(table.delete, (_json(removed),))
    for table in child.tables:
        if rows := table.present(added):
            tx.query(table.insert, (_json(rows),))
        if rows := table.present([new_row for old_row, new_row in changed if table.differs(old_row, new_row)]):
            tx.query(table.update, (_json(rows),))


def _rows_by_key(
    mapping: AggregateMapping, child: ChildMapping, state: AggregateState, extra: Mapping[str, Any]
) -> dict[tuple[Any, ...], PartRow]:
    """Return the columns of every part by its key: its own fields, its root's id and merchant, and `extra`."""
    inherited = {**extra, **{column: getattr(state, column) for column in mapping.inherited}}
    parts: Sequence[Value] = getattr(state, child.field)
    rows = ({**inherited, **msgspec.structs.asdict(part)} for part in parts)
    return {tuple(row[name] for name in child.key): row for row in rows}


def required(found: list[State], state_type: type[State], merchant_id: str, aggregate_id: str) -> State:
    """Return the only state that was found; NotFoundError when there is none."""
    if not found:
        name = state_type.AGGREGATE_TYPE.replace("_", " ")
        raise NotFoundError(f"Merchant {merchant_id} has no {name} {aggregate_id}.")
    return found[0]


def _require_version(expected: Expected, found: Sequence[AggregateState], asked: tuple[str, str]) -> None:
    """Raise PreconditionError when the expected aggregate was asked for, and is not there or has another version."""
    if not found and asked == (expected.aggregate_type, expected.aggregate_id):
        name = expected.aggregate_type.replace("_", " ")
        raise PreconditionError(
            f"There is no {name} {expected.aggregate_id}, so it has no version; nothing was changed."
        )
    for state in found:
        is_it = (state.AGGREGATE_TYPE, state.aggregate_id) == (expected.aggregate_type, expected.aggregate_id)
        if is_it and state.version != expected.version:
            name = state.AGGREGATE_TYPE.replace("_", " ")
            raise PreconditionError(
                f"The {name} {state.aggregate_id} has version {state.version} by now, not {expected.version}; "
                "nothing was changed."
            )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
