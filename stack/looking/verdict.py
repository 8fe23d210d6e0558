"""Whether the system is well, in one sentence and an exit code: what is down, and what else a person must look at.

Belongs here: that judgement, as pure functions of a status. Does not belong here: reading the status
(`stack/looking/status.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.ownership import Lateness, copy_named
from contracts.text import counted
from stack.looking.servers import RUNNING
from stack.looking.witnesses import blind
from stack.processes.supervision import STEADY_SECONDS, ProgramState

if TYPE_CHECKING:
    from stack.looking.copies import ProjectionStatus
    from stack.looking.status import Status

WELL, WRONG, NOTHING_RUNS = 0, 1, 3
SHOWN = 3
OFTEN = 3
"""With this number of restarts or more, a worker that has just started counts as one that ends repeatedly."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of a status."""

    exit_code: int
    """0: the system is well; 1: something is down, or there is an alarm; 3: nothing runs."""
    sentence: str
    down: tuple[str, ...] = ()
    """What does not run or answer, a sentence each."""
    alarms: tuple[str, ...] = ()
    """What else a person must look at, a sentence each."""


def verdict_of(status: Status) -> Verdict:
    """Return the judgement of a status. A copy that is LATE is no alarm; a copy that is OVERDUE is one."""
    if status.state == "down":
        return Verdict(exit_code=NOTHING_RUNS, sentence="Nothing runs here: `tieout up` starts it.")
    down, alarms = tuple(_down(status)), tuple(_alarms(status))
    if down:
        return Verdict(exit_code=WRONG, sentence=f"Something is down: {_first(down)}", down=down, alarms=alarms)
    if alarms:
        return Verdict(exit_code=WRONG, sentence=f"All runs, but look: {_first(alarms)}", alarms=alarms)
    running = [counted(len(status.servers), "server"), counted(len(status.workers), "worker")]
    copies = len({copy.name for copy in (*status.projections, *status.warehouse)})
    kept = counted(copies, "copy keeps", "copies keep")
    return Verdict(exit_code=WELL, sentence=f"All is well: {' and '.join(running)} run, {kept} up.")


def _first(sentences: tuple[str, ...]) -> str:
    more = f"; and {len(sentences) - SHOWN:,} more" if len(sentences) > SHOWN else ""
    return "; ".join(sentences[:SHOWN]) + f"{more}."


def _down(status: Status) -> Iterator[str]:
    servers = [server for server in status.servers if server.state != RUNNING]
    yield from (server.sentence for server in servers)
    if status.servers_refusal:
        yield f"what has ended cannot be started again: {status.servers_refusal.rstrip('.')}"
    yield from _workers(status.workers)
    if status.resident is None and not status.is_external:
        yield "nothing keeps servers and workers running: start `tieout up`"
    elif status.resident is not None and not status.workers:
        yield "no worker runs: their supervisor does not answer"
    if not servers:
        # When a server is down, its pods and copies do not answer either. So we report only the server.
        for pod in status.pods:
            if pod.state == "unreachable":
                yield f"{pod.pod} could not be looked at: {pod.error}"
        for copy in (*status.projections, *status.warehouse):
            if copy.state == "unreachable":
                yield f"{_name(copy)} could not be looked at: {copy.error}"


def _workers(workers: Sequence[ProgramState]) -> Iterator[str]:
    for worker in workers:
        if worker.refusal:
            yield f"worker {worker.name} does not go on: {worker.refusal.rstrip('.')}"
        elif worker.state != "running" and not _is_starting(worker):
            yield f"worker {worker.name} is {worker.state}"
        elif worker.restarts >= OFTEN and worker.seconds is not None and worker.seconds < STEADY_SECONDS:
            yield f"worker {worker.name} ends again and again, {worker.restarts:,} times so far"


def _is_starting(worker: ProgramState) -> bool:
    """Return whether the worker starts for the first time since Tieout was started, so no process has ended."""
    return worker.state == "starting" and not worker.restarts


def _alarms(status: Status) -> Iterator[str]:
    if starting := sum(_is_starting(worker) for worker in status.workers):
        yield f"{counted(starting, 'worker is', 'workers are')} starting"
    yield from _behind(status)
    breaks = status.breaks or {}
    if escalated := breaks.get("escalated"):
        yield f"{counted(escalated, 'break needs', 'breaks need')} a person"
    if waiting := breaks.get("open", 0) + breaks.get("repairing", 0):
        yield f"{counted(waiting, 'break is', 'breaks are')} being repaired"
    yield from (one.alarm for one in status.notifications if one.alarm)
    if status.left_out:
        yield f"finance leaves out {counted(len(status.left_out), 'defective aggregate')}"
    if status.unmet:
        yield counted(len(status.unmet), "expectation does not hold", "expectations do not hold")
    unknown = [pair for pair in status.pairs or () if pair.verdict == "unknown"]
    if unknown:
        yield f"{counted(len(unknown), 'comparison', 'comparisons')} could not be made, the first {unknown[0].pair}"
    if status.pairs and status.is_coverage_behind:
        yield "not everything was compared in the time that is stated: `tieout coverage`"
    if any(worker.name == "witness" for worker in status.workers):
        yield from (sentence.rstrip(".") for sentence in blind(status.witnesses))
        if status.uncompared:
            yield f"{status.uncompared}: `tieout coverage`"
    if status.pages_missing:
        yield f"Dagster's pages are not ready: {status.pages_missing}"
    yield from (f"near its limit: {sentence.rstrip('.')}" for sentence in status.near_limits)


def _behind(status: Status) -> Iterator[str]:
    for copy in (*status.projections, *status.warehouse):
        if copy.state == "gap":
            yield f"{_name(copy)} lacks cuts that the log no longer has"
        if copy.state == "ahead":
            yield f"{_name(copy)} knows cuts that its pod does not"
        if copy.parked:
            yield f"{counted(copy.parked, 'aggregate')} parked in {_name(copy)}"
        if copy.lag_seconds is not None and copy_named(copy.name).lateness(copy.lag_seconds) is Lateness.OVERDUE:
            yield f"{_name(copy)} is {copy.lag_seconds:,.0f} s behind"


def _name(copy: ProjectionStatus) -> str:
    return f"{copy.name.replace('_', ' ')} of {copy.pod}"
