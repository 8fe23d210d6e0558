"""OLTP's tables as assets. Dagster observes them and never materializes them, because only commands write them.

Belongs here: these assets. Does not belong here: counting their rows (`oltp/store/observe.py`).
"""

from collections.abc import Iterator

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import OWNERS, oltp_key
from assets.platform import PLATFORM, platform_of
from contracts.events import STATE_TYPES
from contracts.facts import FACTS
from oltp.store.observe import Observation, observe


def description_of(aggregate_type: str) -> str:
    """Return which facts the tables of an aggregate type hold."""
    facts = [fact for fact in FACTS if aggregate_type in fact.aggregates]
    return " ".join(f"{fact.name.capitalize()}: {fact.description}" for fact in facts)


def spec_of(aggregate_type: str) -> dg.AssetSpec:
    """Return the asset of one aggregate type over all pods."""
    return dg.AssetSpec(
        oltp_key(aggregate_type),
        group_name="oltp",
        owners=OWNERS,
        kinds={"postgres"},
        description=f"{description_of(aggregate_type)} Owner of the fact; written by commands only.",
    )


def observed(aggregate_type: str, observations: list[Observation]) -> dg.ObserveResult:
    """Return one aggregate type's observation; its data version is the cut vector at which it was read."""
    version = ",".join(f"{observation.pod}:{observation.cut}" for observation in observations)
    rows = {f"rows_{observation.pod}": observation.rows[aggregate_type] for observation in observations}
    return dg.ObserveResult(
        asset_key=oltp_key(aggregate_type),
        data_version=dg.DataVersion(version),
        metadata={"cuts": version, "rows": sum(rows.values()), **rows},
    )


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    name="observe_oltp",
    specs=[spec_of(aggregate_type) for aggregate_type in STATE_TYPES],
    can_subset=True,
    required_resource_keys={PLATFORM},
)
def oltp_tables(context: AssetExecutionContext) -> Iterator[dg.ObserveResult]:
    """Count every pod's rows by aggregate type, each pod in one snapshot."""
    observations = [observe(pod) for pod in platform_of(context).settings.pods]
    for aggregate_type in STATE_TYPES:
        if oltp_key(aggregate_type) in context.selected_asset_keys:
            yield observed(aggregate_type, observations)
