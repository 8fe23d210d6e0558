"""Put the tables back to what an aggregate's newest event says: a person decided that the write past it was wrong.

Nothing happened, so there is no event: the rows are again what every event and every copy say. It writes as a restore
does, in a transaction that declares its reason (`oltp.declare_bypass`); so it needs the owner's connection, and code
never runs it by itself. Totals, limits and foreign keys hold at the commit, as for everybody.
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
    """What was put back."""

    changed: list[str]
    """The fields that differed; empty: the rows said so already."""


class PutBack(Command[Corrected], frozen=True, kw_only=True):
    """Make an aggregate's rows exactly what its newest event says, as a person decided; not offered to clients.

    `said` is the state in that event as JSON text, None where no event of it exists: then its rows are taken out.
    `shown_digest` is the digest of the rows that the person saw, None where there were none.
    """

    aggregate_type: AggregateType
    aggregate_id: StoredName
    said: StateText | None
    shown_digest: Digest | None
    reason: Note

    def run(self, tx: CommandTransaction) -> Corrected:
        """Return what was put back; ConflictError when the rows are not any more what the person was shown."""
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
    """Return the columns that the tables have and the state has not: prices repeat the merchant's currency."""
    if not isinstance(said, ProductState):
        return {}
    merchant = find(tx, MerchantState, said.merchant_id, said.merchant_id, lock=False)
    return {} if merchant is None else {"currency": merchant.currency}
