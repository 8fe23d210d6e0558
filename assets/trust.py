"""Assets about trust: the ledger of breaks, the alerts about them, and the drills.

Breaks and alerts are tables in the control database; comparisons, repairs and the sender write them, and Dagster only
shows them. Materializing the drills runs them.

Belongs here: these assets. Does not belong here: the tables (`repair/`), the drills (`drills/`).
"""

import dagster as dg
from dagster import AssetExecutionContext

from assets.copies import ALL_KEYS
from assets.graph import FINANCE_OWNERS, OWNERS
from assets.platform import PLATFORM, platform_of
from contracts.clock import utc_now
from drills.matrix import cell_proofs, summary, system_proofs
from drills.records import newest_proofs

BREAKS = dg.AssetKey(["trust", "breaks"])
ALERTS = dg.AssetKey(["trust", "alerts"])
DRILLS = dg.AssetKey(["trust", "drills"])
GROUP = "trust"

breaks = dg.AssetSpec(
    BREAKS,
    deps=list(ALL_KEYS.values()),
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


@dg.asset(
    key=DRILLS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    description="Every copy broken on purpose, on a system of its own with the same code and workers, under load: "
    "replay, lag, stale read, source outage. Takes some minutes; the matrix is in docs/drills.md.",
    required_resource_keys={PLATFORM},
)
def drills(context: AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Run all drills and show the matrix; the checks report which drills failed."""
    platform = platform_of(context)
    page = platform.drill(context.log.info)
    cells = cell_proofs(newest_proofs(platform.settings.control_dsn), utc_now())
    rows = [
        dg.TableRecord({"copy": proof.system, **{cell.drill.test.value: str(cell) for cell in proof.cells}})
        for proof in system_proofs(cells)
    ]
    return dg.MaterializeResult(
        metadata={
            "summary": summary(cells),
            "matrix": dg.MetadataValue.table(rows),
            "evidence": dg.MetadataValue.path(page),
        }
    )
