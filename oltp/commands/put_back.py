"""Reset an aggregate's rows to its newest event, when a person decides that a write behind the outbox was wrong.

It publishes no event, because nothing happened in the business: afterwards the rows equal the events and the copies
again. It writes as a restore does, in a transaction that declares its reason (`oltp.declare_bypass`). So it needs the
owner's connection, and no automatic process runs it. The database checks totals, limits and foreign keys at the commit,
as for every command.
"""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events import STATE_TYPES
from contracts.events.changes import field_changes, state_digest
from contracts.events.common import AggregateState, Value
from contracts.events.merchant import MerchantState
from contracts.events.product import ProductState
from contracts.limits import AggregateType, Digest, Note, StateText, StoredName
from oltp.commands.execute import Command
from oltp.store.rows import find, remove, write
from oltp.transaction import CommandTransaction


class Corrected(Value, frozen=True, kw_only=True):
    """The result of the correction."""

    changed: list[str]
    """The fields that differed; empty: the rows were already equal to the event."""


class PutBack(Command[Corrected], frozen=True, kw_only=True):
    """Make an aggregate's rows equal to its newest event, as a person decided; not offered to clients.

    `said` is the state in that event as JSON text. None: the aggregate has no event, and its rows are deleted.
    `shown_digest` is the digest of the rows that the person saw; None: there were no rows.
    """

    aggregate_type: AggregateType
    aggregate_id: StoredName
    said: StateText | None
    shown_digest: Digest | None
    reason: Note

    def run(self, tx: CommandTransaction) -> Corrected:
        """Return the changed fields; ConflictError when the rows have changed since the person saw them."""
        state_type = STATE_TYPES.get(self.aggregate_type)
        if state_type is None or not self.reason:
            raise InputError(f"A correction needs a reason, and a type of aggregate, not {self.aggregate_type!r}.")
        said = None if self.said is None else msgspec.json.decode(self.said, type=state_type)
        present = find(tx, state_type, self.merchant_id, self.aggregate_id)
        if present == said:
            return Corrected(changed=[])
        if self.shown_digest != (None if present is None else state_digest(present)):
            raise ConflictError(
                f"{self.aggregate_type} {self.aggregate_id} is not any more what was shown: look again, then decide."
            )
        tx.query("select oltp.declare_bypass(%s)", (self.reason,))
        if said is not None:
            write(tx, present, said, _extra(tx, said))
        elif present is not None:
            remove(tx, present)
        return Corrected(changed=[change.field for change in field_changes(present, said)])


def _extra(tx: CommandTransaction, said: AggregateState) -> dict[str, Any]:
    """Return the columns that are in the tables but not in the state: prices repeat the merchant's currency."""
    if not isinstance(said, ProductState):
        return {}
    merchant = find(tx, MerchantState, said.merchant_id, said.merchant_id, lock=False)
    return {} if merchant is None else {"currency": merchant.currency}
