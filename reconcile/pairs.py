"""The register of all pairs, which are all comparisons that exist.

Belongs here: the list, and finding pairs by name. Does not belong here: how a pair is compared (in the module that it
is imported from).
"""

from __future__ import annotations

from collections.abc import Collection

from contracts.errors import InputError
from contracts.ownership import absent_copies
from contracts.settings import Settings
from reconcile.copies.answer_cache import ANSWERS_PAIR, FLOORS_PAIR
from reconcile.copies.cart import CART_PAIR
from reconcile.copies.search import SEARCH_PAIR
from reconcile.copies.webhooks import WEBHOOK_PAIR
from reconcile.daily_pairs import DAILY_PAIR
from reconcile.finance_pairs import FINANCE_PAIRS
from reconcile.gift_card_pair import GIFT_CARD_PAIR
from reconcile.history_pairs import HISTORY_PAIRS
from reconcile.identity_pairs import JOURNAL_PAIR, STOCK_PAIR
from reconcile.journal_pair import JOURNAL_ENTRIES_PAIR
from reconcile.lake_pairs import LAKE_PAIRS
from reconcile.log_pairs import LOG_PAIR, OUTBOX_PAIR
from reconcile.oltp_identities import OLTP_IDENTITIES
from reconcile.pair import Pair, Stage
from reconcile.position_pairs import POSITION_PAIR
from reconcile.read_model_pairs import READ_MODEL_PAIRS
from reconcile.tax_movement_pair import TAX_MOVEMENTS_PAIR
from reconcile.tax_pair import TAX_PAIR

__all__ = ["PAIRS", "Pair", "Stage", "pairs_named", "pairs_of"]

PAIRS: tuple[Pair, ...] = (
    STOCK_PAIR,
    OLTP_IDENTITIES,
    OUTBOX_PAIR,
    POSITION_PAIR,
    LOG_PAIR,
    *LAKE_PAIRS,
    *FINANCE_PAIRS,
    TAX_PAIR,
    DAILY_PAIR,
    GIFT_CARD_PAIR,
    JOURNAL_PAIR,
    *HISTORY_PAIRS,
    JOURNAL_ENTRIES_PAIR,
    TAX_MOVEMENTS_PAIR,
    *READ_MODEL_PAIRS,
    SEARCH_PAIR,
    ANSWERS_PAIR,
    FLOORS_PAIR,
    CART_PAIR,
    WEBHOOK_PAIR,
)
"""Every pair, in the order in which a run compares them."""


def pairs_of(settings: Settings) -> tuple[Pair, ...]:
    """Return the pairs of the copies that the system of these settings has."""
    absent = absent_copies(settings)
    return tuple(pair for pair in PAIRS if pair.copy not in absent)


def pairs_named(names: Collection[str] | None) -> tuple[Pair, ...]:
    """Return the pairs with these names, or of families such as ``oltp_lake``; all for None.

    Raises InputError, which lists the known names.
    """
    if names is None:
        return PAIRS
    chosen = tuple(pair for pair in PAIRS if pair.name in names or pair.name.split(".")[0] in names)
    known = {pair.name for pair in PAIRS} | {pair.name.split(".")[0] for pair in PAIRS}
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(f"There is no pair {unknown[0]!r}; there are {', '.join(sorted(known))}.")
    return chosen
