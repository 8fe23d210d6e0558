"""The routines of a system without Dagster: each is a function of the settings and runs in its own process.

    python -m stack.upkeep.worker once --routine compare_changes

Belongs here: the work of Dagster's jobs, composed without Dagster. Does not belong here: when it is done
(`stack/upkeep/timetable.py`), the work itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial

from contracts.clock import utc_now
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.text import counted

logger = logging.getLogger("tieout.routine")


def compare_changes(settings: Settings) -> None:
    """Compare what changed, what has breaks, and the sweep's next part; build the warehouse to the cuts first."""
    _compare(settings, is_incremental=True)


def compare_everything(settings: Settings) -> None:
    """Compare everything at new cuts, and write the digest for finance."""
    _compare(settings, is_incremental=False)


def _compare(settings: Settings, *, is_incremental: bool) -> None:
    from stack.composition.builder import warm_builder
    from stack.composition.reconciling import conclusion, describe_recorded, reconcile_now
    from stack.upkeep.alerting import write_digest

    with warm_builder(settings) as builder:
        found = reconcile_now(settings, SILENT, builder, is_incremental=is_incremental)
    if not is_incremental:
        write_digest(settings, found, f"comparison {utc_now():%Y-%m-%dT%H:%M:%SZ}")
    logger.info("%s %s", conclusion(found), describe_recorded(found.recorded))


def repair(settings: Settings) -> None:
    """Repair the open breaks, and compare the same pairs again."""
    from repair.repair_run import repair_breaks
    from stack.composition.repairing import repairing_tools

    with repairing_tools(settings, SILENT) as tools:
        report = repair_breaks(tools)
    repaired = report.settled.repaired if report.settled else 0
    logger.info("%d of %s repaired", repaired, counted(len(report.breaks), "break"))


def compact_lake(settings: Settings) -> None:
    """Merge the lake's small files, and delete old snapshots and their files."""
    from derived.lake_compaction import compact
    from derived.lake_connection import bounds_of

    done = compact(settings.catalog_dsn, settings.lake_data_path, bounds=bounds_of(settings))
    logger.info("The lake has %d files, %d before", done.files_after, done.files_before)


def prune_outboxes(settings: Settings) -> None:
    """Back up the lake's new files, verify the backup, and only then delete the outbox rows that are in it."""
    from derived.retention import prune_outboxes as prune
    from repair.ledger import accepted_events

    for done in prune(settings, partial(accepted_events, settings.control_dsn)):
        if done.held_back:
            logger.warning("%s", done.held_back)
        pruned = counted(done.pruned_events, "event")
        logger.info("%s: %s pruned, verified through cut %d", done.pod, pruned, done.verified_cut)


def trim_log(settings: Settings) -> None:
    """Remove the log's entries that the lake and every registered projection have applied."""
    from streams.lag import trim_log as trim
    from streams.logs import build_log

    with closing(build_log(settings)) as log:
        for pod in settings.pods:
            removed = counted(trim(log, pod.pod).removed_entries, "entry", "entries")
            logger.info("%s: %s removed", pod.pod, removed)


def prune_results(settings: Settings) -> None:
    """Delete old results of comparisons, figures and sightings, but never the newest result of a pair in a pod."""
    from reconcile.retention import prune_comparisons

    done = prune_comparisons(settings.control_dsn, utc_now())
    logger.info("%d results, %d figures, %d sightings deleted", done.results, done.figures, done.sightings)


def expire_reservations(settings: Settings) -> None:
    """Expire reservations and gift cards; settle calls to the payment provider, and try its notifications that wait."""
    from oltp.commands.execute import build_command_pod
    from oltp.expiry import expire_due
    from oltp.notifying import apply_waiting
    from oltp.settling import settle_provider_calls
    from streams.clocks import database_clock

    for pod_settings in settings.pods:
        # Use the database's clock: a clock that is ahead would end reservations that are still valid.
        clock = database_clock(pod_settings.reader_dsn)
        with build_command_pod(pod_settings, connections_max=1, clock=clock) as pod:
            expired = expire_due(pod)
        with build_command_pod(pod_settings, connections_max=1) as pod:
            done = settle_provider_calls(pod)
            tried = apply_waiting(pod)
        failures = {**done.failures, **tried.failures}
        if expired or done.settled or tried.ended or failures:
            ended = done.settled + tried.ended
            logger.info("%s: %d expired, %d settled, %s", pod_settings.pod, expired, ended, failures or "")


def prune_keys(settings: Settings) -> None:
    """Remove the idempotency keys whose lease is over, and old notifications of the payment provider."""
    from oltp.idempotency_keys import prune_keys as prune
    from oltp.notifying import prune_notifications

    for pod in settings.pods:
        keys, notifications = prune(pod.relay_dsn), prune_notifications(pod.relay_dsn)
        logger.info("%s: %d idempotency keys and %d notifications removed", pod.pod, keys, notifications)


def drill(settings: Settings) -> None:
    """Run every drill on a separate system, and record the outcomes."""
    from stack.composition.drilling import drill_everything

    drill_everything(settings, logger.info)


ROUTINES: Mapping[str, Callable[[Settings], None]] = {
    one.__name__: one
    for one in (
        compare_changes,
        compare_everything,
        repair,
        compact_lake,
        prune_outboxes,
        trim_log,
        prune_results,
        expire_reservations,
        prune_keys,
        drill,
    )
}
