"""Spreading a variant's stock over slots, or folding it back, as an operator asks for it by SKU.

Belongs here: finding the merchant's pod and the variant, and running the command there. Does not belong here: what is
printed (`cli/commands/hot_stock.py`), what happens in the pod (`oltp/commands/spread_stock.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from contracts.errors import NotFoundError
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.spread_stock import SpreadStock
from oltp.directory import pod_of
from oltp.store.stock import StockLayout

_VARIANT = "select variant_id::text from oltp.variants where merchant_id = %s and sku = %s"


@dataclass(frozen=True, kw_only=True)
class HotStock:
    """A variant at a location, in the pod in which its merchant lives."""

    settings: Settings
    pod: str
    merchant_id: str
    variant_id: str
    location_id: str

    def change(self, *, is_spread: bool, reason: str, is_preview: bool) -> StockLayout:
        """Spread the level or fold it back, or only say what that would do."""
        command = SpreadStock(
            merchant_id=self.merchant_id,
            location_id=self.location_id,
            variant_id=self.variant_id,
            is_spread=is_spread,
            reason=reason,
            is_preview=is_preview,
        )
        with build_command_pod(self.settings.pod(self.pod), connections_max=1) as pod:
            # A key of its own: done twice it finds the level spread already, and changes nothing.
            return execute(pod, command, idempotency_key=f"hot-stock-{uuid7()}")


def find_hot_stock(settings: Settings, merchant_id: str, sku: str, location_id: str) -> HotStock:
    """Return the merchant's variant of this SKU; NotFoundError when there is no such merchant or SKU."""
    pod = pod_of(settings.control_dsn, merchant_id).pod
    with psycopg.connect(settings.pod(pod).reader_dsn) as connection:
        row = connection.execute(_VARIANT, (merchant_id, sku)).fetchone()
    if row is None:
        raise NotFoundError(f"Merchant {merchant_id} has no SKU {sku}.")
    return HotStock(settings=settings, pod=pod, merchant_id=merchant_id, variant_id=row[0], location_id=location_id)
