"""The loop that repairs failed checks: a sensor that only reads, and one job per pod that repairs and compares again.

A comparison that finds differences writes them into the ledger of breaks; its check fails and names the incidents. The
sensor sees breaks that nobody works on and starts the pod's job, whose tags name the incidents and the run that found
them. The job claims them, repairs, compares the pairs concerned at a new cut, and reports these comparisons as
evaluations of the same checks, which name the repair. The sensor counts nothing and claims nothing: evaluated twice, it
asks for the same run.

What must not overlap, and what sees to it:

- Two repairs of one pod: an advisory lock per pod in the control database, held while the repair runs; and no break is
  taken twice, because claiming it is one statement in the ledger. Dagster's limit on the tag only saves a run.
- Two relays of one pod, so also a drain beside a worker: the relay's advisory lock in the pod. A repair that publishes
  cuts again takes it over, and the worker comes back behind it.
- Two builds of the warehouse, whoever asked for them: the build lock in the control database, and the lock of whoever
  writes, in the lake's catalog: dbt's own process holds it, so one that a killed run left behind is waited for.
- Two writers of one copy of one pod: the row with its position, which each of their commits changes.
- A repair and the run that found what it repairs: the sensor waits for that run, within limits.
- Two recordings in the ledger: its advisory lock. A comparison older than one that was recorded says nothing any more;
  what is older is decided by cuts and by the ledger's counter (`trust.moments`), not by when a comparison ended.

What may overlap: a comparison with a drain or a repair, since it reads at a cut. It cannot end a break that is being
repaired unless it began after the claim, nor one that another comparison has seen while it was reading. What it finds
again in the middle of a repair stays with that repair.

Belongs here: that sensor and these jobs. Does not belong here: repairing (`repair/run.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import dagster as dg
from dagster import OpExecutionContext
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import BREAKS
from checks.pairs import check_result, ledger_metadata
from contracts.errors import ComparisonError
from contracts.runs import FOUND_BY_TAG, GROUPS_TAG, REPAIR_TAG
from contracts.text import counted
from contracts.verdicts import PairResult
from orchestration.upkeep import without_secrets
from reconcile.pairs import PAIRS
from reconcile.results import latest_results
from repair.audit import abandoned_runs
from repair.ledger import find_group, groups
from repair.ledger.incidents import Waiting, waiting_for_repair
from repair.run import RepairReport, repair_breaks
from streams.clocks import database_clock

LOOK_SECONDS = 10
RETRY_SECONDS = 600
"""A repair of the same breaks that could not even claim them is asked for again after this long, not sooner."""
LOOKING_SECONDS_MAX = 900
"""A comparison that has run for longer than this is no longer waited for: it hangs, or it is not worth the wait."""
ATTEMPTS_COUNTED = 10
"""Beyond this, attempts no longer make a request another one: something is wrong that trying quickly does not mend."""
GROUPS_NAMED = 5


def job_name(pod: str) -> str:
    """Return the name of the job that repairs a pod."""
    return f"repair_{pod}"


def repair_job(pod: str) -> dg.JobDefinition:
    """Return the job that repairs the open breaks of one pod and compares again."""

    @dg.op(name=f"repair_breaks_of_{pod}", required_resource_keys={PLATFORM})
    def repair(context: OpExecutionContext) -> None:
        repair_pod(context, pod)

    @dg.job(
        name=job_name(pod),
        tags={REPAIR_TAG: pod},
        description=f"Repairs the open breaks of {pod} within its budget, then compares the same pairs at a new cut.",
    )
    def job() -> None:
        repair()

    return job


def repair_pod(context: OpExecutionContext, pod: str) -> None:
    """Repair what is open in a pod, report the comparisons afterwards as evaluations of the same checks."""
    platform = platform_of(context)
    with without_secrets(platform.settings), platform.repairing() as tools:
        report = repair_breaks(tools, run=context.run_id, pods=[pod])
    if report.busy_pods:
        context.log.info(f"Another repair is at work in {pod}; nothing was done.")
        return
    for evaluation in evaluations(context, platform, report):
        # Dagster takes evaluations here, although its annotation does not say so.
        context.log_event(evaluation)  # type: ignore[arg-type]
    for action in report.actions:
        failed = f" failed: {action.error}" if action.error else ""
        context.log.info(f"{action.kind} in {action.store} of {action.pod}, {counted(action.key_count, 'key')}{failed}")
    open_now = ledger_metadata(platform.settings.control_dsn)
    found = found_by(context.instance, context.run.tags.get(FOUND_BY_TAG, ""))
    context.log_event(dg.AssetObservation(BREAKS, metadata={**open_now, **_outcome(report), **found}))
    context.add_output_metadata({**_outcome(report), **found})


def _outcome(report: RepairReport) -> dict[str, int | str]:
    return {
        "breaks_claimed": len(report.breaks),
        "breaks_repaired": report.settled.repaired if report.settled else 0,
        "breaks_vanished": report.settled.vanished if report.settled else 0,
        "breaks_escalated": sum(len(item.break_ids) for item in report.plan.escalations)
        + (len(report.settled.escalated) if report.settled else 0),
        "actions": len(report.actions),
        "actions_failed": sum(bool(action.error) for action in report.actions),
        "actions_that_changed_nothing": sum(action.outcome == "nothing_to_do" for action in report.actions),
        "break_groups": _named(_groups_of(report, None)),
    }


def _groups_of(report: RepairReport, pair: str | None) -> list[int]:
    return sorted({item.group_id for item in report.breaks if pair in (None, item.pair)})


def _named(group_ids: Sequence[int]) -> str:
    return ", ".join(str(group_id) for group_id in group_ids) or "none"


def evaluations(
    context: OpExecutionContext, platform: Platform, report: RepairReport
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield an evaluation per pair that was compared after the repair.

    A check looks at all pods: of those that were not compared again it shows the newest result, with its cut.
    """
    control_dsn = platform.settings.control_dsn
    incidents, newest = groups(control_dsn), latest_results(control_dsn)
    for pair in PAIRS:
        compared = [result for result in report.results if result.pair == pair.name]
        if not compared:
            continue
        mine = [incident for incident in incidents if incident.pair == pair.name]
        try:
            found = check_result(pair, _of_all_pods(compared, newest), mine, repaired_by=context.run_id)
        except ComparisonError as error:
            context.log.warning(f"No evaluation of its check: {error}")
            continue
        yield _evaluation(context.instance, found, _worked_on(context.instance, control_dsn, report, pair.name))


def _worked_on(
    instance: dg.DagsterInstance, control_dsn: str, report: RepairReport, pair: str
) -> dict[str, dg.MetadataValue]:
    """Return which incidents of a pair were worked on, and a link to the run that found the newest of them."""
    group_ids = _groups_of(report, pair)
    link = found_by(instance, find_group(control_dsn, group_ids[-1]).opened_run) if group_ids else {}
    return {"groups_worked_on": dg.MetadataValue.text(_named(group_ids)), **link}


def _of_all_pods(compared: Sequence[PairResult], newest: Sequence[PairResult]) -> list[PairResult]:
    pods = {result.pod for result in compared}
    return [*compared, *(item for item in newest if item.pair == compared[0].pair and item.pod not in pods)]


def found_by(instance: dg.DagsterInstance, run_id: str) -> dict[str, dg.MetadataValue]:
    """Return a link to the run whose comparison found what is repaired, where that was a run of Dagster's."""
    return {"found_by": dg.MetadataValue.dagster_run(run_id)} if instance.has_run(run_id) else {}


def _evaluation(
    instance: dg.DagsterInstance, found: dg.AssetCheckResult, metadata: Mapping[str, dg.MetadataValue]
) -> dg.AssetCheckEvaluation:
    assert found.asset_key is not None and found.check_name is not None
    records = instance.fetch_materializations(found.asset_key, limit=1).records
    target = (
        AssetCheckEvaluationTargetMaterializationData(
            storage_id=records[0].storage_id, run_id=records[0].run_id, timestamp=records[0].timestamp
        )
        if records
        else None
    )
    return dg.AssetCheckEvaluation(
        asset_key=found.asset_key,
        check_name=found.check_name,
        passed=bool(found.passed),
        severity=found.severity,
        description=found.description,
        metadata={**found.metadata, **metadata},
        target_materialization_data=target,
    )


def request_for(waiting: Waiting, now: datetime) -> dg.RunRequest:
    """Return the run that is asked for; the same one, by its key, as long as nothing changed and time is not over."""
    bucket = int(now.timestamp()) // RETRY_SECONDS
    attempt = min(waiting.attempt, ATTEMPTS_COUNTED)
    return dg.RunRequest(
        run_key=f"repair:{waiting.pod}:{waiting.newest_break_id}:{attempt}:{bucket}",
        job_name=job_name(waiting.pod),
        tags={
            REPAIR_TAG: waiting.pod,
            GROUPS_TAG: ",".join(str(group_id) for group_id in waiting.group_ids[-GROUPS_NAMED:]),
            FOUND_BY_TAG: waiting.found_by,
        },
    )


def repair_sensor(jobs: Sequence[dg.JobDefinition]) -> dg.SensorDefinition:
    """Return the sensor that starts these jobs."""

    @dg.sensor(
        name="repair_open_breaks",
        jobs=jobs,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={PLATFORM},
        description="Starts the repair of a pod that has open breaks on which nobody works. Reads only.",
    )
    def repair_open_breaks(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        settings = platform_of(context).settings
        with without_secrets(settings):
            # Claims run out by the clock of their database.
            now = database_clock(settings.control_dsn)()
            found = waiting_for_repair(settings.control_dsn, now, abandoned_runs(settings.control_dsn))
        free = [waiting for waiting in found if not waiting.is_claimed and not _is_running(context, waiting.pod)]
        ready = [waiting for waiting in free if not is_looking(context.instance, waiting.found_by, now)]
        if not ready:
            reason = "What found the breaks still compares." if free else "A repair is at work."
            yield dg.SkipReason(reason if found else "No break waits for a repair.")
        for waiting in ready:
            yield request_for(waiting, now)

    return repair_open_breaks


def is_looking(instance: dg.DagsterInstance, run_id: str, now: datetime) -> bool:
    """Return whether the run that found breaks still compares.

    It is waited for: a repair makes whole tables anew, and what a comparison had not come to by then would be mended
    and never named.
    """
    record = instance.get_run_record_by_id(run_id) if run_id else None
    if record is None or record.dagster_run.status not in NOT_FINISHED_STATUSES:
        return False
    return (now - record.create_timestamp).total_seconds() < LOOKING_SECONDS_MAX


def _is_running(context: dg.SensorEvaluationContext, pod: str) -> bool:
    # One that waits in the queue, too: on a busy machine, another would be asked for at every look.
    filters = dg.RunsFilter(tags={REPAIR_TAG: pod}, statuses=list(NOT_FINISHED_STATUSES))
    return context.instance.get_runs_count(filters) > 0
