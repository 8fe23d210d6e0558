"""Pruning Dagster's history: runs, events and check evaluations are kept for some days.

The newest of each kind is never deleted, and each pass deletes a bounded number. Dagster itself only deletes old ticks
(`stack/processes/dagster_home.py`), and the heartbeats alone write twenty thousand events a day.

Belongs here: that upkeep of Dagster's own database. Does not belong here: the ledger and the results, which are ours.
"""

from datetime import datetime, timedelta

import dagster as dg
import psycopg
from dagster import OpExecutionContext
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from assets.platform import PLATFORM, platform_of
from contracts.clock import utc_now
from orchestration.upkeep import without_secrets

RUNS_KEPT_DAYS = 14
EVENTS_KEPT_DAYS = 2
"""For events that belong to no run: heartbeats, and the results of comparisons made outside Dagster."""
RUNS_PER_PASS = 500
ROWS_PER_PASS = 50_000

NEWEST_RUNS = "select last_run_id from asset_keys where last_run_id <> ''"
"""Runs that hold the newest materialization of an asset; the asset's page shows that materialization."""

# Ids decide which row is newest, because times are not unique. Events of a run are deleted with the run.
PRUNE_EVENTS = """
with gone as (
    delete from event_logs where id in (
        select old.id from event_logs as old
        where old.run_id = '' and old.asset_key is not null and old.timestamp < %(before)s
          and exists (
              select from event_logs as newer
              where newer.asset_key = old.asset_key and newer.dagster_event_type = old.dagster_event_type
                and newer.partition is not distinct from old.partition and newer.id > old.id
          )
        order by old.id limit %(limit)s
    )
    returning id
), untagged as (
    delete from asset_event_tags where event_id in (select id from gone)
)
select count(*) from gone
"""
PRUNE_EVALUATIONS = """
delete from asset_check_executions where id in (
    select old.id from asset_check_executions as old
    where old.create_timestamp < %(before)s
      and exists (
          select from asset_check_executions as newer
          where newer.asset_key = old.asset_key and newer.check_name = old.check_name
            and newer.partition is not distinct from old.partition and newer.id > old.id
      )
    order by old.id limit %(limit)s
)
"""


def prune_runs(instance: dg.DagsterInstance, before: datetime, *, kept: frozenset[str] = frozenset()) -> int:
    """Delete finished runs that were created before a moment, with their events and logs; return how many.

    The oldest are deleted first. Runs in `kept` stay. At most RUNS_PER_PASS are deleted; the next pass goes on.
    """
    filters = dg.RunsFilter(statuses=list(FINISHED_STATUSES), created_before=before)
    found = instance.get_runs(filters, limit=RUNS_PER_PASS + len(kept), ascending=True)
    doomed = [run.run_id for run in found if run.run_id not in kept][:RUNS_PER_PASS]
    for run_id in doomed:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(doomed)


def prune_events(dagster_dsn: str, now: datetime) -> tuple[int, int]:
    """Delete old events without a run and old evaluations of checks, except the newest; return how many of each."""
    # Dagster stores UTC times without a time zone.
    naive = now.replace(tzinfo=None)
    events_before, evaluations_before = naive - timedelta(days=EVENTS_KEPT_DAYS), naive - timedelta(days=RUNS_KEPT_DAYS)
    with psycopg.connect(dagster_dsn) as connection:
        row = connection.execute(PRUNE_EVENTS, {"before": events_before, "limit": ROWS_PER_PASS}).fetchone()
        evaluations = connection.execute(PRUNE_EVALUATIONS, {"before": evaluations_before, "limit": ROWS_PER_PASS})
    return (row[0] if row else 0), evaluations.rowcount


@dg.op(required_resource_keys={PLATFORM})
def prune_history(context: OpExecutionContext) -> None:
    """Delete runs, events and evaluations that are older than the limits above."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        with psycopg.connect(settings.dagster_dsn) as connection:
            kept = frozenset(run_id for (run_id,) in connection.execute(NEWEST_RUNS).fetchall())
        runs = prune_runs(context.instance, utc_now() - timedelta(days=RUNS_KEPT_DAYS), kept=kept)
        events, evaluations = prune_events(settings.dagster_dsn, utc_now())
    context.add_output_metadata({"runs": runs, "events": events, "evaluations": evaluations})


@dg.job(description=f"Deletes Dagster's runs older than {RUNS_KEPT_DAYS} days and old events, never the newest ones.")
def history_pruning() -> None:
    """Prune Dagster's history."""
    prune_history()
