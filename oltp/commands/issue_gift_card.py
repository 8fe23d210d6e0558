"""Issue a gift card: value that can be spent on orders, for money that was received or as a gift of the house."""

from __future__ import annotations

from typing import ClassVar

from contracts.events.gift_card import GiftCardEvent, GiftCardFunding, GiftCardState
from contracts.limits import AmountMinor, At, Note, Reference, Source, Uuid
from oltp.commands.execute import Command
from oltp.domain.gift_cards import issue_gift_card
from oltp.store.merchants import merchant_currency
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class IssueGiftCard(Command[GiftCardState], frozen=True, kw_only=True):
    """Issue a card over `amount_minor` of the merchant's currency.

    A card that is sold names what its money was received under (`external_reference`): it was taken before, and is
    booked as cash here. No tax is due: that is charged on what the card buys.
    """

    IS_BATCHABLE: ClassVar[bool] = True

    funding: GiftCardFunding
    amount_minor: AmountMinor
    source: Source
    external_reference: Reference | None = None
    reason: Note = ""
    expires_at: At | None = None
    gift_card_id: Uuid | None = None

    def run(self, tx: CommandTransaction) -> GiftCardState:
        """Return the card; InputError when it is over already, or sold without a reference."""
        card = issue_gift_card(
            merchant_id=self.merchant_id,
            gift_card_id=self.gift_card_id or tx.new_id(),
            currency=merchant_currency(tx, self.merchant_id),
            funding=GiftCardFunding(self.funding),
            amount_minor=self.amount_minor,
            external_reference=self.external_reference,
            reason=self.reason,
            source=self.source,
            issued_at=tx.occurred_at,
            expires_at=self.expires_at,
        )
        return save(tx, None, card, GiftCardEvent.GIFT_CARD_ISSUED)
