"""Whether the recent drills of every copy held: one check per copy, from the table of drills.

A proof that is older than the contract allows does not count. Cannot catch: a promise that no drill tests, and a fault
that appeared after the last drill.

Belongs here: these checks. Does not belong here: when a proof counts (`drills/matrix.py`).
"""

from collections.abc import Iterator

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import DRILLS
from contracts.clock import utc_now
from contracts.drills import PROOF_AGE_MAX
from contracts.ownership import COPIES
from drills.matrix import ProofState, SystemProof, cell_proofs, system_proofs
from drills.records import newest_proofs

SUFFIX = "last_proof_is_recent"
COLUMNS = ("test", "state", "age", "drilled_at", "code_version", "problems")


def check_name(system: str) -> str:
    """Return the name of a copy's check."""
    return f"{system}__{SUFFIX}"


def proof_result(proof: SystemProof) -> dg.AssetCheckResult:
    """Return the check of one copy: never drilled is a warning; failed or too old is an error."""
    rows = [
        dg.TableRecord(
            {
                "test": cell.drill.test.value,
                "state": cell.state.value,
                "age": "" if cell.age is None else str(cell.age).partition(".")[0],
                "drilled_at": "" if cell.proof is None else cell.proof.ended_at.isoformat(timespec="seconds"),
                "code_version": "" if cell.proof is None else cell.proof.code_version,
                "problems": "" if cell.proof is None else "; ".join(cell.proof.problems[:3]),
            }
        )
        for cell in proof.cells
    ]
    is_wrong = proof.state in (ProofState.FAILED, ProofState.TOO_OLD)
    oldest = {} if proof.oldest is None else {"oldest_proof_days": proof.oldest.total_seconds() / 86_400}
    return dg.AssetCheckResult(
        asset_key=DRILLS,
        check_name=check_name(proof.system),
        passed=proof.is_recent,
        severity=dg.AssetCheckSeverity.ERROR if is_wrong else dg.AssetCheckSeverity.WARN,
        description=proof.reason,
        metadata={**oldest, "drills": dg.MetadataValue.table(rows), "runbook": "docs/runbooks/drills.md"},
    )


def proofs_now(platform: Platform) -> Iterator[dg.AssetCheckResult]:
    """Read the newest drill of every cell, and yield every copy's check."""
    for proof in system_proofs(cell_proofs(newest_proofs(platform.settings.control_dsn), utc_now())):
        yield proof_result(proof)


@dg.multi_asset_check(
    name=SUFFIX,
    specs=[
        dg.AssetCheckSpec(
            check_name(copy.name),
            asset=DRILLS,
            description=f"Every drill of {copy.name} held when it was last run, at most {PROOF_AGE_MAX.days} days ago.",
        )
        for copy in COPIES
    ],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def last_proofs(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Read the newest drill of every cell."""
    selected = {key.name for key in context.op_execution_context.selected_asset_check_keys}
    yield from (found for found in proofs_now(platform_of(context)) if found.check_name in selected)
