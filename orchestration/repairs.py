"""The loop that repairs failed checks: what asks for a repair, and one job per pod that repairs and compares again.

A comparison that finds differences writes them into the ledger of breaks; its check fails and names the incidents. The
repairer (`orchestration/repairer.py`) finds breaks that no run has claimed within a second, and runs the pod's job in
its own process. While it does not look, a sensor finds them and starts the same job in a new process. The job's tags
name the incidents and the run that found them. The job claims the breaks, repairs them, compares the pairs concerned at
a new cut, and reports these comparisons as evaluations of the same checks, which name the repair. The sensor only
reads, so it is idempotent: evaluated twice, it requests the same run.

What must not overlap, and what prevents it:

- Two repairs of one pod: an advisory lock per pod in the control database, held until a repair has nothing left to do
  but to build the warehouse and to compare what it has built. One statement in the ledger claims a break, so no break
  is claimed twice. Dagster's limit on the tag only avoids useless runs.
- Two relays of one pod, so also a drain and a worker: the relay's advisory lock in the pod. A repair that publishes
  cuts again waits in the queue for this lock and ends the worker's session; its supervisor starts the worker again.
- Two builds of the warehouse, no matter who starts them: the build lock in the control database, and the writers' lock
  in the lake's catalog. dbt's own process holds the writers' lock, so the next build waits for a dbt process that a
  killed run left behind.
- Two writers of one copy of one pod: the row with its position, which each of their commits changes.
- A repair and the run that found its breaks: repairer and sensor wait for that run, for at most LOOKING_SECONDS_MAX.
- Two recordings in the ledger: its advisory lock. The ledger ignores a comparison that is older than one it has
  recorded. Cuts and the ledger's counter (`trust.moments`) decide which is older, not the time a comparison ended.

What may overlap: a comparison with a drain or a repair, because the comparison reads at a cut. A comparison can end a
break under repair only if it began after the claim; it cannot end a break that another comparison saw while it was
reading. A difference that it finds again during a repair stays with that repair.

Belongs here: these jobs, the sensor, and which pods are ready for a repair. Does not belong here: repairing
(`repair/repair_run.py`), running a job without a new process (`orchestration/repairer.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from dagster import OpExecutionContext
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import BREAKS
from checks.pairs import check_result, ledger_metadata
from contracts.errors import ComparisonError
from contracts.runs import FOUND_BY_TAG, GROUPS_TAG, REPAIR_TAG, REPAIRER
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import PairResult
from orchestration.upkeep import without_secrets
from reconcile.pairs import PAIRS
from reconcile.results import latest_results
from repair.holding import abandoned_runs, runs_without_pods
from repair.ledger import find_group, groups
from repair.ledger.incidents import Waiting, waiting_for_repair
from repair.ledger.looks import is_looked_at
from repair.repair_run import repair_breaks
from repair.run_report import RepairReport
from streams.clocks import database_clock

LOOK_SECONDS = 10
REPAIRER_SECONDS_MAX = 30
"""The sensor requests repairs itself when the repairer has not looked for this time."""
RETRY_SECONDS = 600
"""If a repair could not even claim the breaks, the same repair is requested again after this time."""
LOOKING_SECONDS_MAX = 900
"""The sensor does not wait longer than this for a comparison: it hangs, or waiting longer costs more than it saves."""
ATTEMPTS_COUNTED = 10
"""More failed attempts than this no longer change the run key: then only a new bucket of RETRY_SECONDS makes a new
request, because quick retries do not help."""
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
    """Repair the open breaks of a pod, and report the comparisons afterwards as evaluations of the same checks."""
    platform = platform_of(context)
    with without_secrets(platform.settings), platform.repairing() as tools:
        report = repair_breaks(tools, run=context.run_id, pods=[pod])
    if report.busy_pods:
        context.log.info(f"Another repair is at work in {pod}; nothing was done.")
        return
    for evaluation in evaluations(context, platform, report):
        # log_event accepts evaluations, although its type annotation does not say so.
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
    """Yield an evaluation for each pair that was compared after the repair.

    A check covers all pods: for pods that were not compared again it shows the newest result, with its cut.
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
    """Return which incidents of a pair were repaired, and a link to the run that found the newest of them."""
    group_ids = _groups_of(report, pair)
    link = found_by(instance, find_group(control_dsn, group_ids[-1]).opened_run) if group_ids else {}
    return {"groups_worked_on": dg.MetadataValue.text(_named(group_ids)), **link}


def _of_all_pods(compared: Sequence[PairResult], newest: Sequence[PairResult]) -> list[PairResult]:
    pods = {result.pod for result in compared}
    return [*compared, *(item for item in newest if item.pair == compared[0].pair and item.pod not in pods)]


def found_by(instance: dg.DagsterInstance, run_id: str) -> dict[str, dg.MetadataValue]:
    """Return a link to the run whose comparison found the breaks; empty if that was not a Dagster run."""
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
    """Return the run request; its key stays the same until breaks or attempts change, or RETRY_SECONDS have passed."""
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
        description="Starts the repair of a pod that has open breaks on which nobody works, while no repairer looks "
        "for them. Reads only.",
    )
    def repair_open_breaks(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        settings = platform_of(context).settings
        with without_secrets(settings):
            if is_looked_at(settings.control_dsn, REPAIRER, REPAIRER_SECONDS_MAX):
                yield dg.SkipReason("The repairer looks for breaks every second and repairs them in its own process.")
                return
            queue = repair_queue(settings, context.instance)
        if not queue.ready:
            yield dg.SkipReason(queue.why_nothing)
        for waiting in queue.ready:
            yield request_for(waiting, queue.now)

    return repair_open_breaks


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The pods with breaks that nobody repairs, at one moment of the control database's clock."""

    now: datetime
    ready: Sequence[Waiting] = ()
    """The pods whose repair may begin."""
    building: Collection[str] = ()
    """The runs that have given their pods back and still build."""
    why_nothing: str = ""
    """Why no repair may begin; empty when one may."""


def repair_queue(settings: Settings, instance: dg.DagsterInstance) -> Queue:
    """Return which pods wait for a repair, and whether it may begin."""
    # Leases of claims are measured by the control database's clock.
    now = database_clock(settings.control_dsn)()
    building = runs_without_pods(settings.control_dsn)
    found = waiting_for_repair(settings.control_dsn, now, abandoned_runs(settings.control_dsn), building)
    free = [waiting for waiting in found if not waiting.is_claimed and not _is_running(instance, waiting.pod, building)]
    ready = [waiting for waiting in free if not is_looking(instance, waiting.found_by, now)]
    if ready:
        return Queue(now=now, ready=ready, building=building)
    reason = "What found the breaks still compares." if free else "A repair is at work."
    return Queue(now=now, why_nothing=reason if found else "No break waits for a repair.")


def is_looking(instance: dg.DagsterInstance, run_id: str, now: datetime) -> bool:
    """Return whether the run that found breaks is still comparing.

    Its repair waits for it: a repair may rebuild whole tables, and so would fix differences that the comparison has not
    reached yet; these would never be reported.
    """
    record = instance.get_run_record_by_id(run_id) if run_id else None
    if record is None or record.dagster_run.status not in NOT_FINISHED_STATUSES:
        return False
    return (now - record.create_timestamp).total_seconds() < LOOKING_SECONDS_MAX


def _is_running(instance: dg.DagsterInstance, pod: str, building: Collection[str]) -> bool:
    """Return whether a run repairs the pod, or will; one of `building` has given it back."""
    # Also count queued runs: on a busy machine every evaluation would otherwise request another one.
    filters = dg.RunsFilter(tags={REPAIR_TAG: pod}, statuses=list(NOT_FINISHED_STATUSES))
    return any(run.run_id not in building for run in instance.get_runs(filters))
