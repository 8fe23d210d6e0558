"""Operations <-> what is owed on gift cards: the balances of a merchant's cards against the account in the journal.

Belongs here: that one comparison, over all cards at once. Does not belong here: a card's own entries
(`identity_pairs.py`), its row in the mart (`finance_pairs.py`).
"""

from __future__ import annotations

from reconcile.finance_pairs import Mart, finance_pair
from reconcile.identity_pairs import PER_MINOR
from reconcile.shapes import Shape, sums

QUERIES = {
    "gift_cards_by_merchant": """
        select merchant_id, currency, balance_minor
        from (
            select merchant_id, currency, sum(balance_minor)::text as balance_minor
            from oltp.gift_cards group by merchant_id, currency
        ) as c
    """,
}
"""Sums travel as text (`read_queries`): as wide as PostgreSQL made them."""

LIABILITY = Mart(
    shape=Shape(
        name="marts.gift_card_liability",
        key=("merchant_id", "currency"),
        columns=sums("owed_micro"),
        currency="currency",
    ),
    left=f"""
        with owed as (
            select merchant_id, currency, (balance_minor * {PER_MINOR})::HUGEINT as owed_micro
            from {{gift_cards_by_merchant}}
        )
        select * from owed where owed_micro <> 0""",
    right="""
        with owed as (
            select merchant_id, currency, -sum(amount_micro)::HUGEINT as owed_micro
            from lake.marts.journal where pod = $pod and account = 'gift_card_liability' group by merchant_id, currency
        )
        select * from owed where owed_micro <> 0""",
)

GIFT_CARD_PAIR = finance_pair(
    "gift_card_liability",
    (LIABILITY,),
    ("gift_card", "payment", "refund"),
    "What is left on all gift cards of a merchant, by currency, is what the journal owes on them.",
    cannot_catch="Two cards of one merchant that are wrong by opposite amounts, which operational_finance.gift_cards "
    "finds. A value that OLTP itself has wrong.",
    queries=QUERIES,
)
