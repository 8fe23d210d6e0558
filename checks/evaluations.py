"""A check's result as a separate evaluation, for code that does not run as that check: a sensor or a repair.

Belongs here: making such evaluations. Does not belong here: the results (the modules of the checks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg


def evaluation_of(found: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Return a result as an evaluation that names its check."""
    assert found.asset_key is not None and found.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=found.asset_key,
        check_name=found.check_name,
        passed=bool(found.passed),
        severity=found.severity,
        description=found.description,
        metadata=found.metadata,
    )


def could_not_look(key: dg.AssetKey, check_name: str, reason: str) -> dg.AssetCheckEvaluation:
    """Return a failed evaluation for a check that could not look, with the reason: "could not look" is never a pass."""
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check_name,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Could not look: {reason}",
    )


def looked_at(
    keys: list[dg.AssetCheckKey], look: Callable[[], Iterator[dg.AssetCheckResult]], scrub: Callable[[str], str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield an evaluation for each of `keys`: what `look` found, or the reason why it could not look."""
    found: dict[dg.AssetCheckKey, dg.AssetCheckEvaluation] = {}
    reason = "nothing was found"
    try:
        for result in look():
            evaluation = evaluation_of(result)
            found[dg.AssetCheckKey(evaluation.asset_key, evaluation.check_name)] = evaluation
    except Exception as error:  # any error: these checks could not look; the caller goes on with the others
        reason = scrub(" ".join(f"{type(error).__name__}: {error}".split()))
    for key in keys:
        yield found.get(key) or could_not_look(key.asset_key, key.name, reason)
