"""Trust as assets: the ledger of breaks, and the messages to people about them.

Both are tables in the control database that comparisons, repairs and the sender write; Dagster shows where they stand.
"""

from __future__ import annotations

import dagster as dg

from assets.graph import ACCOUNT_VIEW, FINANCE_OWNERS, FULFILLMENT_VIEW, LAKE_EVENTS, OWNERS

BREAKS = dg.AssetKey(["trust", "breaks"])
ALERTS = dg.AssetKey(["trust", "alerts"])
GROUP = "trust"

breaks = dg.AssetSpec(
    BREAKS,
    deps=[LAKE_EVENTS, ACCOUNT_VIEW, FULFILLMENT_VIEW],
    group_name=GROUP,
    owners=[*OWNERS, *FINANCE_OWNERS],
    kinds={"postgres"},
    description="Every key on which two stores did not agree, from the comparison that found it to its end. "
    "Recorded by comparisons and repairs; `tieout breaks list` reads it.",
)
alerts = dg.AssetSpec(
    ALERTS,
    deps=[BREAKS],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    description="What people are told: incidents opened, escalated and resolved, digests, the daily sign of life. "
    "Written and sent by the sensor `alerts`; `tieout alerts` reads it.",
)
