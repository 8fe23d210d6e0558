"""What Dagster keeps of runs, events and evaluations: some days, never the newest of anything, a bounded part a time.

Dagster itself lets go of old ticks only (`stack/processes/dagster_home.py`). Heartbeats alone are twenty thousand
events a day. Belongs here: that upkeep of Dagster's own database. Does not belong here: the ledger and the results,
which are ours.
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
"""Of what is reported without a run: heartbeats, what comparisons outside Dagster found."""
RUNS_PER_PASS = 500
ROWS_PER_PASS = 50_000

NEWEST_RUNS = "select last_run_id from asset_keys where last_run_id <> ''"
"""Runs that hold the newest materialization of an asset, which its page shows."""

# By the order of ids: a time is not unique. Events of runs go with their runs.
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
    """Delete runs that ended and began before a moment, with events and logs, the oldest first; return how many.

    Those in `kept` stay, and so does what is beyond RUNS_PER_PASS: the next pass takes it.
    """
    filters = dg.RunsFilter(statuses=list(FINISHED_STATUSES), created_before=before)
    found = instance.get_runs(filters, limit=RUNS_PER_PASS + len(kept), ascending=True)
    doomed = [run.run_id for run in found if run.run_id not in kept][:RUNS_PER_PASS]
    for run_id in doomed:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(doomed)


def prune_events(dagster_dsn: str, now: datetime) -> tuple[int, int]:
    """Delete (events without a run, evaluations of checks) that are old and not the newest; return how many."""
    # Dagster writes times in UTC without saying so.
    naive = now.replace(tzinfo=None)
    events_before, evaluations_before = naive - timedelta(days=EVENTS_KEPT_DAYS), naive - timedelta(days=RUNS_KEPT_DAYS)
    with psycopg.connect(dagster_dsn) as connection:
        row = connection.execute(PRUNE_EVENTS, {"before": events_before, "limit": ROWS_PER_PASS}).fetchone()
        evaluations = connection.execute(PRUNE_EVALUATIONS, {"before": evaluations_before, "limit": ROWS_PER_PASS})
    return (row[0] if row else 0), evaluations.rowcount


@dg.op(required_resource_keys={PLATFORM})
def prune_history(context: OpExecutionContext) -> None:
    """Delete what is older than stated."""
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
