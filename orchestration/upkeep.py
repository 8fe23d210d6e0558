"""Jobs that keep stores small: compact the lake, prune outboxes behind a verified backup, trim the log and the results.

They also remove idempotency keys whose lease is over. Belongs here: these jobs. Does not belong here: Dagster's own
history (`history.py`), expired reservations (`reservations.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import dagster as dg
import duckdb
import psycopg
from dagster import OpExecutionContext

from assets.platform import PLATFORM, platform_of
from contracts.clock import utc_now
from contracts.settings import Settings
from contracts.text import counted
from derived.lake_compaction import compact
from derived.lake_connection import bounds_of
from derived.retention import prune_outboxes
from oltp.idempotency_keys import KEY_LEASE, prune_keys
from oltp.notifying import prune_notifications
from reconcile.retention import RESULTS_KEPT_DAYS, prune_comparisons
from repair.ledger import accepted_events
from stack.scrubbing import scrubber
from streams.lag import trim_log
from streams.logs import build_log


@contextmanager
def without_secrets(settings: Settings) -> Iterator[None]:
    """Turn a database error into a failure of the run; its text, which Dagster stores and shows, holds no passwords."""
    try:
        yield
    except (duckdb.Error, psycopg.Error) as error:
        raise dg.Failure(scrubber(settings)(f"{type(error).__name__}: {error}")) from None


@dg.op(required_resource_keys={PLATFORM})
def compact_lake(context: OpExecutionContext) -> None:
    """Merge small files, rewrite the fences, expire old snapshots and delete their files."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        done = compact(settings.catalog_dsn, settings.lake_data_path, bounds=bounds_of(settings))
    context.add_output_metadata(
        {
            "files_before": done.files_before,
            "files_after": done.files_after,
            "snapshots_expired": done.snapshots_expired,
            "files_deleted": done.files_deleted,
        }
    )


@dg.op(required_resource_keys={PLATFORM})
def prune_backed_up_outboxes(context: OpExecutionContext) -> None:
    """Back up the new events of the lake, verify the backup, delete the outbox rows that it holds."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        done = prune_outboxes(settings, partial(accepted_events, settings.control_dsn))
    for pruned in done:
        if pruned.held_back:
            context.log.warning(pruned.held_back)
        context.log.info(
            f"{pruned.pod}: {counted(pruned.backed_up_events, 'event')} backed up, verified through cut "
            f"{pruned.verified_cut}, {counted(pruned.pruned_events, 'outbox row')} pruned"
        )


@dg.op(required_resource_keys={PLATFORM})
def trim_applied_log(context: OpExecutionContext) -> None:
    """Remove log entries that the lake and every registered projection have applied."""
    settings = platform_of(context).settings
    log = build_log(settings)
    try:
        for pod in settings.pods:
            done = trim_log(log, pod.pod)
            ignored = f"; stuck and ignored: {', '.join(done.ignored)}" if done.ignored else ""
            context.log.info(
                f"{pod.pod}: kept from cut {done.kept_from_cut}, "
                f"{counted(done.removed_entries, 'entry', 'entries')} removed{ignored}"
            )
    finally:
        log.close()


@dg.op(required_resource_keys={PLATFORM})
def prune_old_results(context: OpExecutionContext) -> None:
    """Delete comparison results older than RESULTS_KEPT_DAYS, but never the newest of a pair in a pod."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        done = prune_comparisons(settings.control_dsn, utc_now())
    context.add_output_metadata(vars(done))


@dg.op(required_resource_keys={PLATFORM})
def prune_old_keys(context: OpExecutionContext) -> None:
    """Remove the idempotency keys whose lease is over, and old notifications of the payment provider, pod by pod."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        removed = {pod.pod: prune_keys(pod.relay_dsn) for pod in settings.pods}
        notifications = {f"notifications_{pod.pod}": prune_notifications(pod.relay_dsn) for pod in settings.pods}
    context.add_output_metadata({**removed, **notifications})


@dg.job(description="Merges the lake's small files and drops what no reader can need.")
def lake_compaction() -> None:
    """Compact the lake."""
    compact_lake()


@dg.job(description="Backs the lake up, verifies the backup, and only then prunes outboxes.")
def outbox_pruning() -> None:
    """Prune the outboxes."""
    prune_backed_up_outboxes()


@dg.job(description="Removes log entries that every projection has applied.")
def log_trimming() -> None:
    """Trim the log."""
    trim_applied_log()


@dg.job(description=f"Deletes comparison results older than {RESULTS_KEPT_DAYS} days, but never the newest of a pair.")
def results_pruning() -> None:
    """Prune the results."""
    prune_old_results()


@dg.job(description=f"Removes idempotency keys that are older than {KEY_LEASE.days} days, but never those of imports.")
def key_pruning() -> None:
    """Prune the idempotency keys."""
    prune_old_keys()
