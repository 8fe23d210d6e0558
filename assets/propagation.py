"""The way out of each pod: its outbox and its streams. Materializing them drains the outbox to its end (batch mode)."""

from collections.abc import Iterator

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import OLTP_KEYS, OWNERS, contract_metadata, log_key, outbox_key
from assets.platform import PLATFORM, platform_of
from contracts.runs import DRAIN_TAG
from derived.witnesses import witnesses_of
from streams.draining import drain_pod, observe_pod


def outbox_spec(pod: str) -> dg.AssetSpec:
    """Return the asset of a pod's outbox."""
    return dg.AssetSpec(
        outbox_key(pod),
        deps=OLTP_KEYS,
        group_name="propagation",
        owners=OWNERS,
        kinds={"postgres"},
        description=f"Events that commands left in {pod}; numbered into cuts. Materializing drains them to the log.",
    )


def log_spec(pod: str) -> dg.AssetSpec:
    """Return the asset of a pod's streams."""
    return dg.AssetSpec(
        log_key(pod),
        deps=[outbox_key(pod)],
        group_name="propagation",
        owners=OWNERS,
        kinds={"redis"},
        description=f"{pod}'s cuts as record batches by partition, with a manifest per cut.",
        metadata=contract_metadata("log"),
    )


def drain_asset(pod: str) -> dg.AssetsDefinition:
    """Return the assets of one pod's outbox and log, which one drain materializes together."""

    @dg.multi_asset(
        name=f"publish_{pod}",
        specs=[outbox_spec(pod), log_spec(pod)],
        required_resource_keys={PLATFORM},
        # Two drains of one pod: the second waits for the first (advisory lock), so nothing is published twice.
        op_tags={DRAIN_TAG: pod},
    )
    def drain(context: AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        settings = platform_of(context).settings
        pod_settings = settings.pod(pod)
        drained = drain_pod(pod_settings, settings, witnesses=witnesses_of(settings))
        left = observe_pod(pod_settings, settings)
        yield dg.MaterializeResult(
            asset_key=outbox_key(pod),
            metadata={
                "cut": left.cut,
                "unpublished_events": left.unpublished_events,
                "oldest_unpublished_seconds": left.oldest_unpublished_seconds,
            },
        )
        yield dg.MaterializeResult(
            asset_key=log_key(pod),
            data_version=dg.DataVersion(str(drained.cut)),
            metadata={
                "cut": drained.cut,
                "events_published": drained.events_published,
                "published_by": drained.published_by,
            },
        )

    return drain
