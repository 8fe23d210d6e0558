"""Publish the present rows of one aggregate as an event, after a write that bypassed the outbox.

OLTP is the truth, so a repair never changes OLTP to match the copies. Instead it publishes the present state in the
normal way: with a lock, a new version and an outbox row; then every copy applies it. A state that breaks the database's
own checks (totals that differ from the sum of their parts, limits) is not published: a person decides.

The event carries `cause` in its payload (who restates it, e.g. the break that found it). Its `occurred_at` is the time
of the original fact, e.g. when the order was placed. So finance sees the difference on the day it belongs to, and sees
from `recorded_at` and the cut that it came late.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace
from psycopg import errors

from contracts.errors import InputError, NotRestatableError
from contracts.events import AGGREGATES, STATE_TYPES
from contracts.events.changes import state_digest
from contracts.events.common import AggregateState, Value, changed_fields
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState
from contracts.events.upcasting import UnreadableEventError, read_state
from contracts.limits import AggregateType, Digest, Note, StoredName, Version
from oltp.commands.execute import Command
from oltp.outbox import Change, publish_all
from oltp.store.rows import advance, ask, load
from oltp.transaction import CommandTransaction

RESTATED = "_restated"
"""How the event is called that states an aggregate again; what happens once has none."""


def _stating_event(events: type[StrEnum]) -> StrEnum:
    """Return the event that states an aggregate again: of what happens once the only one it can lack, its first."""
    return next((event for event in events if event.endswith(RESTATED)), next(iter(events)))


EVENTS: dict[type[AggregateState], StrEnum] = {state: _stating_event(events) for state, events in AGGREGATES.items()}
"""The event that states an aggregate again, by state type."""

HAPPENS_ONCE = frozenset(state for state, event in EVENTS.items() if not event.endswith(RESTATED))

_NEWEST_EVENT = """
select
    (select min(cut) from oltp.cuts) > 1,
    (
        select json_build_array(schema_version, payload::text) from oltp.outbox
        where aggregate_type = %s and aggregate_id = %s and merchant_id = %s
        order by aggregate_version desc limit 1
    )
"""


class Restated(Value, frozen=True, kw_only=True):
    """The result of a restatement."""

    version: int
    """The version whose event equals the rows."""
    is_published: bool
    """False: the newest event was equal to the rows already, and nothing was written."""
    changed: list[str]
    """Top-level fields that differ from the previous newest event; all fields when the outbox no longer has that event.
    """


class Restate(Command[Restated], frozen=True, kw_only=True):
    """Publish an event with the full present state of rows that were changed or inserted behind the outbox.

    `published_version` is the highest version of which the lake has an event (0: none). It is used only when the outbox
    is pruned and has no event of the aggregate. `shown_digest` is the digest of the state that was compared, or that a
    person approved: a state with another digest is not published. `says_again`: a person wants the state published
    although the newest event equals it, because an earlier event is lost permanently.
    """

    aggregate_type: AggregateType
    aggregate_id: StoredName
    cause: Note
    published_version: Version | None = None
    shown_digest: Digest | None = None
    says_again: bool = False

    def run(self, tx: CommandTransaction) -> Restated:
        """Return the version that was published, and the fields that changed.

        Raises NotFoundError when the aggregate no longer exists. Raises NotRestatableError when the rows break the
        database's own checks, when the aggregate happens once and has its event, or when its version does not follow
        its events.
        """
        state_type = STATE_TYPES.get(self.aggregate_type)
        if state_type is None or not self.cause:
            raise InputError(f"A restatement needs a cause, and a type of aggregate, not {self.aggregate_type!r}.")
        present = self._lock(tx, state_type)
        is_pruned, newest = tx.query(
            _NEWEST_EVENT, (self.aggregate_type, self.aggregate_id, self.merchant_id)
        ).fetchone() or (False, None)
        before = None if newest is None else _read(present, *newest)
        version = self._next_version(present, before, is_pruned=bool(is_pruned))
        if self.says_again and version == present.version and self.shown_digest == state_digest(present):
            version += 1
        after = msgspec.structs.replace(present, version=version)
        changed = changed_fields(before, after)
        if version == present.version and before is not None and before.version == version:
            return Restated(version=version, is_published=False, changed=[])
        if self.shown_digest not in (None, state_digest(present)):
            raise NotRestatableError(f"{_named(present)} is not any more what was looked at: compare it again.")
        _write(tx, present, before, after, self.cause)
        return Restated(version=version, is_published=True, changed=changed)

    def _lock(self, tx: CommandTransaction, state_type: type[AggregateState]) -> AggregateState:
        if state_type is RefundState:
            # Lock order and payment first, as every command does: the database trigger that checks a refund locks both.
            refund = load(tx, RefundState, self.merchant_id, self.aggregate_id, lock=False)
            ask(tx, OrderState, self.merchant_id, refund.order_id)
            ask(tx, PaymentState, self.merchant_id, refund.payment_id)
        # Aggregates that happen once are never changed, so commands have no right to lock them. The outbox refuses a
        # second first event.
        return load(tx, state_type, self.merchant_id, self.aggregate_id, lock=state_type not in HAPPENS_ONCE)

    def _next_version(self, present: AggregateState, before: AggregateState | None, *, is_pruned: bool) -> int:
        """Return the version for the event of the present state; the newest event's version if that event equals it."""
        if before is not None:
            published = before.version
        elif self.published_version is not None or not is_pruned:
            published = self.published_version or 0
        else:
            published = present.version  # all events of the row are pruned: the usual case
        if present.version == published + 1:
            return present.version
        if present.version != published:
            raise NotRestatableError(
                f"{_named(present)} has version {present.version}, and its newest event version {published}: its rows "
                "were not written by one change; a person must look."
            )
        if before is not None and not changed_fields(before, present):
            return published
        if type(present) in HAPPENS_ONCE:
            raise NotRestatableError(
                f"{_named(present)} happens once and has its event, which says otherwise; a person must look."
            )
        return published + 1


def _write(
    tx: CommandTransaction, present: AggregateState, before: AggregateState | None, after: AggregateState, cause: str
) -> None:
    """Advance the root's version if it is new, publish the event, and run the deferred constraints now."""
    if after.version != present.version:
        advance(tx, present)
    change = Change(before=before, after=after, event_type=EVENTS[type(after)], cause=cause)
    publish_all(replace(tx, occurred_at=_moment(after) or tx.occurred_at), [change])
    try:
        tx.query("set constraints all immediate")
        tx.query("select true").fetchone()
    except errors.IntegrityError as error:
        reason = error.diag.message_primary or str(error)
        raise NotRestatableError(f"{_named(after)} cannot be stated as it is: {reason} A person must look.") from error


def _moment(state: AggregateState) -> datetime | None:
    """Return when the fact occurred that the state tells of; None: it tells of no one moment."""
    if isinstance(state, PaymentState) and (state.captures or state.movements):
        return max([*(one.captured_at for one in state.captures), *(one.moved_at for one in state.movements)])
    moments = (getattr(state, name) for name in reversed(state.MOMENT_FIELDS))
    return next((moment for moment in moments if moment is not None), None)


def _read(present: AggregateState, schema_version: int, payload: str) -> AggregateState:
    """Return the state in the newest event; NotRestatableError when the event cannot be read."""
    try:
        return read_state(type(present), schema_version, payload)
    except UnreadableEventError as error:
        raise NotRestatableError(f"{_named(present)} cannot be stated: of its newest event {error}.") from None


def _named(state: AggregateState) -> str:
    return f"{state.AGGREGATE_TYPE.replace('_', ' ').capitalize()} {state.aggregate_id}"
