"""How events leave each pod: its outbox and its streams. Materializing them drains the outbox completely (batch mode).

While a relay runs, only the relay publishes: a drain then waits until the relay has published everything that was
committed before the drain began, and reports that the relay did it.

Belongs here: these two assets. Does not belong here: publishing (`streams/`), applying the log (`assets/copies.py`).
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import LOG, OLTP_KEYS, OUTBOX, OWNERS, contract_metadata, pod_partitions
from assets.platform import PLATFORM, platform_of
from derived.known_cuts import cut_sources_of
from streams.draining import drain_pod, observe_pod

SPECS = (
    dg.AssetSpec(
        OUTBOX,
        deps=OLTP_KEYS,
        group_name="propagation",
        owners=OWNERS,
        kinds={"postgres"},
        description="Events that commands left in each pod; numbered into cuts. Materializing drains them to the log.",
    ),
    dg.AssetSpec(
        LOG,
        deps=[OUTBOX],
        group_name="propagation",
        owners=OWNERS,
        kinds={"redis"},
        description="Each pod's cuts as record batches by partition, with a manifest per cut.",
        metadata=contract_metadata("log"),
    ),
)


def drain_asset(pods: Sequence[str]) -> dg.AssetsDefinition:
    """Return the assets of outbox and log, partitioned by pod; one drain materializes both."""

    # Two drains of one pod: the second waits while the first holds the relay's advisory lock. So nothing is
    # published twice.
    @dg.multi_asset(name="publish", specs=SPECS, partitions_def=pod_partitions(pods), required_resource_keys={PLATFORM})
    def drain(context: AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        settings = platform_of(context).settings
        pod_settings = settings.pod(context.partition_key)
        drained = drain_pod(pod_settings, settings, cut_sources=cut_sources_of(settings))
        left = observe_pod(pod_settings, settings)
        yield dg.MaterializeResult(
            asset_key=OUTBOX,
            metadata={
                "cut": left.cut,
                "unpublished_events": left.unpublished_events,
                "oldest_unpublished_seconds": left.oldest_unpublished_seconds,
            },
        )
        yield dg.MaterializeResult(
            asset_key=LOG,
            data_version=dg.DataVersion(str(drained.cut)),
            metadata={
                "cut": drained.cut,
                "events_published": drained.events_published,
                "published_by": drained.published_by,
            },
        )

    return drain
