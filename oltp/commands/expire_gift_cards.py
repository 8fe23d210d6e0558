"""End the gift cards whose time is over: what was left on them can be spent no more."""

from __future__ import annotations

from contracts.errors import InputError
from contracts.events.gift_card import GiftCardEvent, GiftCardState
from contracts.limits import Batch
from oltp.commands.execute import Command
from oltp.domain.gift_cards import expire
from oltp.outbox import Change
from oltp.store.rows import load, save_all
from oltp.transaction import CommandTransaction

# Rows that somebody else is changing at this moment are left to the next run.
_OVER = """
select gift_card_id from oltp.gift_cards
where merchant_id = %s and status = 'active' and expires_at <= %s
order by expires_at, gift_card_id
limit %s
for no key update skip locked
"""


class ExpireGiftCards(Command[list[GiftCardState]], frozen=True, kw_only=True):
    """At most `limit` of them, the oldest first; call again while it returns that many."""

    limit: Batch = 100

    def run(self, tx: CommandTransaction) -> list[GiftCardState]:
        """Return the cards that ended by this call."""
        if self.limit < 1:
            raise InputError("The limit must be at least 1.")
        found = tx.query(_OVER, (self.merchant_id, tx.occurred_at, self.limit)).fetchall()
        before = [load(tx, GiftCardState, self.merchant_id, gift_card_id) for (gift_card_id,) in found]
        after = [expire(card, tx.occurred_at) for card in before]
        event = GiftCardEvent.GIFT_CARD_EXPIRED
        save_all(tx, [Change(before=old, after=new, event_type=event) for old, new in zip(before, after, strict=True)])
        return after
