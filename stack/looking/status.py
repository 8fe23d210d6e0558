"""The status of the whole system: pods, copies, comparisons, workers. It can be read even when a part is down.

Belongs here: querying each part and combining the answers. Does not belong here: showing them (`cli/status_view.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, TypeVar

from contracts.breaks import ENDED
from contracts.clock import utc_now
from contracts.ownership import CART, WAREHOUSE, Copy, Lateness
from contracts.settings import PodSettings, Settings
from repair.ledger import count_breaks
from stack import settings
from stack.composition import session
from stack.composition.projections import followers, observed_projection
from stack.looking.servers import RUNNING, ServerSeen, look
from stack.looking.unmet import UnmetStatus, read_unmet
from stack.looking.verdict import Verdict, verdict_of
from stack.looking.waiting import CallsStatus, OpenStatus, calls_of, open_in
from stack.looking.witnesses import WitnessStatus, read_uncompared, read_witnesses
from stack.processes import restarts, stopped
from stack.processes.api_address import api_url
from stack.processes.dagster_home import dagster_url
from stack.processes.dagster_pages import pages_missing
from stack.processes.data_docs import data_docs_url
from stack.processes.supervision import ProgramState, Supervisor
from stack.scrubbing import hide_password

Answer = TypeVar("Answer")
UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True)
class PodStatus:
    """One pod: its database, its newest cut, and its unpublished events."""

    pod: str
    dsn: str
    """The DSN of the reader role, which may read everything and change nothing; with its password if requested."""
    cut: int | None = None
    unpublished_events: int | None = None
    """At most `streams.outbox_reading.COUNTED_MAX`, where we stop counting; None when it is not known."""
    oldest_unpublished_seconds: float | None = None
    held_by: str | None = None
    """The holder of the relay lock, which publishes the pod; None when no process holds it."""
    state: str = "reachable"
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectionStatus:
    """One copy of one pod, and its lag: events that the pod has committed and that wait in its outbox or in the log."""

    name: str
    pod: str
    applied_cut: int | None = None
    lag_seconds: float | None = None
    lag_events: int | None = None
    parked: int | None = None
    """Aggregates that wait because one of their events could not be applied."""
    state: str = UNREACHABLE
    """current, behind, parked, gap, ahead (the log lost cuts, or the pod was set back), or unreachable."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class PairStatus:
    """The newest result of one comparison in one pod."""

    pair: str
    pod: str
    verdict: str
    cut: int | None
    compared: int
    missing: int
    extra: int
    different: int
    checked_at: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything that `tieout status` shows."""

    state: str
    """up, partly (some servers or workers do not run), or down (nothing runs)."""
    resident: int | None
    """The process that keeps the stack up."""
    is_external: bool = False
    """Whether the servers are not Tieout's own; then another program than `tieout up` may keep the workers running."""
    servers: list[ServerSeen] = field(default_factory=list)
    servers_refusal: str = ""
    """Why ended servers cannot be started again."""
    dagster_url: str | None
    pages_missing: str = ""
    """Why Dagster's pages cannot be used; empty when they can be used or were not started."""
    api_url: str | None = None
    """The address of the HTTP interface; None when no process keeps the stack up."""
    pods: list[PodStatus] = field(default_factory=list)
    projections: list[ProjectionStatus] = field(default_factory=list)
    warehouse: list[ProjectionStatus] = field(default_factory=list)
    """The newest complete build against the lake, per pod: `current` within its target, else `behind`."""
    pairs: list[PairStatus] | None = None
    """The newest comparison of every pair and pod; None when the ledger does not answer."""
    workers: list[ProgramState] = field(default_factory=list)
    open_transactions: list[OpenStatus] = field(default_factory=list)
    """Transactions in pods that have been open for a long time."""
    provider_calls: list[CallsStatus] = field(default_factory=list)
    """Unsettled calls to the payment provider, for each pod that has some."""
    breaks: dict[str, int] | None = None
    """Breaks that have not ended, by state; None when the ledger does not answer."""
    unmet: list[UnmetStatus] | None = None
    """Expectations that do not hold, the oldest first; None when their table does not answer."""
    data_docs_url: str | None = None
    """The address of the pages of Great Expectations."""
    drills: str | None = None
    """What the newest drills prove, in one line; None when their table does not answer."""
    left_out: list[str] | None = None
    """The defective aggregates that finance leaves out, each with its amounts; None when the lake does not answer."""
    is_coverage_behind: bool = False
    """Whether a comparison is later than the contract states."""
    coverage: str | None = None
    """Since when everything was compared at least once, in a sentence; None when the table does not answer."""
    near_limits: list[str] = field(default_factory=list)
    """Limits that are nearly reached, a sentence each."""
    witnesses: list[WitnessStatus] = field(default_factory=list)
    uncompared: str = ""  # why what witnesses saw does not count as compared in time, in a sentence

    @property
    def verdict(self) -> Verdict:
        """Whether the system is well, in one sentence and an exit code."""
        return verdict_of(self)

    def as_json(self) -> dict[str, Any]:
        """Return the status as values that JSON can hold."""
        return {"verdict": asdict(self.verdict), **asdict(self)}


def read_status(values: Settings, *, has_passwords: bool = False) -> Status:
    """Query servers, pods, copies, results and the supervisor in parallel; a part without an answer is `unreachable`.

    `has_passwords`: whether the DSNs of the pods contain passwords.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        servers = pool.submit(_servers, values)
        pods = [pool.submit(_pod_status, pod, values) for pod in values.pods]
        copies = [pool.submit(_projection_status, *one, values) for one in product(followers(values), values.pods)]
        copies += [pool.submit(_cart_status, pod, values) for pod in values.pods if values.carts_url]
        transactions = [pool.submit(_asked, partial(open_in, pod), lambda _: []) for pod in values.pods]
        calls = [pool.submit(_asked, partial(calls_of, pod), lambda _: []) for pod in values.pods]
        pairs, breaks = pool.submit(_pair_statuses, values), pool.submit(_break_counts, values)
        unmet = pool.submit(_asked, partial(read_unmet, values), lambda _: None)
        drills, coverage = pool.submit(_drills_summary, values), pool.submit(_coverage_line, values)
        witnesses = pool.submit(_asked, partial(read_witnesses, values), lambda _: [])
        uncompared = pool.submit(_asked, partial(read_uncompared, values), lambda _: "")
        warehouse, near = pool.submit(_warehouse_statuses, values), pool.submit(_near_limits, values)
        left_out, missing = pool.submit(_left_out, values), pool.submit(pages_missing, values)
        workers = pool.submit(Supervisor(var_dir=values.var_dir).states)
    resident = session.resident(values.var_dir)
    seen = _seen([future.result() for future in pods], has_passwords=has_passwords)
    status = Status(
        state="down",
        resident=resident.pid if resident else None,
        is_external=settings.is_external(),
        servers=servers.result(),
        servers_refusal=stopped.of_servers(values.var_dir),
        dagster_url=dagster_url(values) if resident else None,
        pages_missing=missing.result() if resident else "",
        api_url=api_url(values) if resident else None,
        pods=list(seen.values()),
        projections=[counting_outbox(copy, seen[copy.pod]) for copy in (future.result() for future in copies)],
        warehouse=[counting_outbox(copy, seen[copy.pod]) for copy in warehouse.result()],
        pairs=pairs.result(),
        workers=workers.result(),
        open_transactions=[found for future in transactions for found in future.result()],
        provider_calls=[found for future in calls for found in future.result()],
        breaks=breaks.result(),
        unmet=unmet.result(),
        data_docs_url=data_docs_url(values),
        drills=drills.result(),
        coverage=coverage.result()[0],
        is_coverage_behind=coverage.result()[1],
        near_limits=near.result(),
        witnesses=witnesses.result(),
        uncompared=uncompared.result(),
        left_out=left_out.result(),
    )
    return Status(**{**vars(status), "state": _overall(status)})


def _seen(pods: Sequence[PodStatus], *, has_passwords: bool) -> dict[str, PodStatus]:
    shown_dsn = (lambda dsn: dsn) if has_passwords else hide_password
    return {pod.pod: replace(pod, dsn=shown_dsn(pod.dsn)) for pod in pods}


def _overall(status: Status) -> str:
    reachable = [pod.state == "reachable" for pod in status.pods]
    answering = [server.state == RUNNING for server in status.servers]
    copies = [copy.state != UNREACHABLE for copy in (*status.projections, *status.warehouse)]
    workers = [worker.state == "running" for worker in status.workers]
    if not any([*reachable, *answering, *workers]) and status.resident is None:
        return "down"
    # A resident process always runs workers. If it lives and there are no workers, their supervisor has ended.
    has_workers = status.resident is None or bool(workers)
    return "up" if has_workers and all([*reachable, *answering, *copies, *workers]) else "partly"


def _servers(values: Settings) -> list[ServerSeen]:
    again = restarts.of_servers(Supervisor(var_dir=values.var_dir).folder)
    return [replace(server, restarts=again.get(server.name, 0)) for server in look(values)]


def _pod_status(pod: PodSettings, values: Settings) -> PodStatus:
    from streams.draining import observe_pod

    def ask() -> PodStatus:
        seen = observe_pod(pod, values)
        return PodStatus(
            pod=pod.pod,
            dsn=pod.reader_dsn,
            cut=seen.cut,
            unpublished_events=seen.unpublished_events,
            oldest_unpublished_seconds=round(seen.oldest_unpublished_seconds, 3),
            held_by=seen.held_by,
        )

    def without_log(error: str) -> PodStatus:
        # Commands do not need the log, so a pod that answers is reachable. Without the log we only do not know the
        # number of unpublished events.
        return _asked(
            lambda: _seen_alone(pod, error),
            lambda own: PodStatus(pod=pod.pod, dsn=pod.reader_dsn, state=UNREACHABLE, error=own),
        )

    return _asked(ask, without_log)


def _seen_alone(pod: PodSettings, error: str) -> PodStatus:
    from streams.outbox_reading import observe_alone

    cut, held_by = observe_alone(pod.reader_dsn)
    return PodStatus(pod=pod.pod, dsn=pod.reader_dsn, cut=cut, held_by=held_by, error=error)


def _projection_status(copy: Copy, pod: PodSettings, values: Settings) -> ProjectionStatus:
    from streams.clocks import database_clock
    from streams.lag import observe
    from streams.logs import build_log

    def ask() -> ProjectionStatus:
        with closing(build_log(values)) as log:
            seen = observe(observed_projection(copy.name, values), pod.pod, log, clock=database_clock(pod.reader_dsn))
        return ProjectionStatus(
            name=copy.name,
            pod=pod.pod,
            applied_cut=seen.applied_cut,
            lag_seconds=round(seen.lag_seconds, 3),
            lag_events=seen.lag_events,
            parked=seen.parked,
            state=seen.state,
        )

    return _asked(ask, lambda error: ProjectionStatus(name=copy.name, pod=pod.pod, error=error))


def _cart_status(pod: PodSettings, values: Settings) -> ProjectionStatus:
    """Return how many carts wait to be written to a pod, and for how long. A cart has no cuts."""
    from stack.looking.carts import waiting_of

    def ask() -> ProjectionStatus:
        number, seconds = waiting_of(values, pod.pod)
        state = "current" if CART.lateness(seconds) is Lateness.FRESH else "behind"
        return ProjectionStatus(
            name=CART.name, pod=pod.pod, lag_seconds=round(seconds, 3), lag_events=number, parked=0, state=state
        )

    return _asked(ask, lambda error: ProjectionStatus(name=CART.name, pod=pod.pod, error=error))


def counting_outbox(copy: ProjectionStatus, pod: PodStatus) -> ProjectionStatus:
    """Return the status of `copy` with the events in the pod's outbox added to its lag, because no copy has them.

    The warehouse stays `current` while the lag is within its target, as it does for events that it has not built.
    """
    waiting, seconds = pod.unpublished_events, pod.oldest_unpublished_seconds
    # What waits in the outbox is an event, and carts have none.
    if copy.name == CART.name or copy.state == UNREACHABLE or not waiting or seconds is None:
        return copy
    lag_seconds = max(copy.lag_seconds or 0.0, seconds)
    within = copy.name == WAREHOUSE.name and WAREHOUSE.lateness(lag_seconds) is Lateness.FRESH
    return replace(
        copy,
        lag_seconds=lag_seconds,
        lag_events=(copy.lag_events or 0) + waiting,
        state="behind" if copy.state == "current" and not within else copy.state,
    )


def _warehouse_statuses(values: Settings) -> list[ProjectionStatus]:
    from derived.warehouse_lag import observe_warehouse

    def ask() -> list[ProjectionStatus]:
        return [
            ProjectionStatus(
                name=WAREHOUSE.name,
                pod=seen.pod,
                applied_cut=seen.built_cut,
                lag_seconds=round(seen.lag_seconds, 3),
                lag_events=seen.lag_events,
                parked=0,
                state="current" if WAREHOUSE.lateness(seen.lag_seconds) is Lateness.FRESH else "behind",
            )
            for seen in observe_warehouse(values)
        ]

    return _asked(
        ask, lambda error: [ProjectionStatus(name=WAREHOUSE.name, pod=pod.pod, error=error) for pod in values.pods]
    )


def _pair_statuses(values: Settings) -> list[PairStatus] | None:
    from reconcile.results import latest_results

    def ask() -> list[PairStatus]:
        return [
            PairStatus(
                pair=result.pair,
                pod=result.pod,
                verdict=result.verdict.value,
                cut=result.cut,
                compared=result.compared,
                missing=result.missing,
                extra=result.extra,
                different=result.different,
                checked_at=result.checked_at.isoformat(),
                reason=result.reason,
            )
            for result in latest_results(values.control_dsn)
        ]

    return _asked(ask, lambda _: None)


def _break_counts(values: Settings) -> dict[str, int] | None:
    def ask() -> dict[str, int] | None:
        counts = count_breaks(values.control_dsn)
        return {state.value: number for state, number in counts.items() if state not in ENDED}

    return _asked(ask, lambda _: None)


def _drills_summary(values: Settings) -> str | None:
    from drills.matrix import cell_proofs, summary
    from drills.records import newest_proofs

    return _asked(lambda: summary(cell_proofs(newest_proofs(values.control_dsn), utc_now())), lambda _: None)


def _near_limits(values: Settings) -> list[str]:
    from stack.looking.headroom import limit_uses

    return _asked(lambda: [use.sentence for use in limit_uses(values) if use.is_near], lambda _: [])


def _coverage_line(values: Settings) -> tuple[str | None, bool]:
    from stack.looking.coverage import read_line

    return _asked(lambda: read_line(values), lambda _: (None, False))


def _left_out(values: Settings) -> list[str] | None:
    from derived.warehouse_lag import left_out_now

    return _asked(lambda: [one.sentence for one in left_out_now(values)], lambda _: None)


def _asked(ask: Callable[[], Answer], unreachable: Callable[[str], Answer]) -> Answer:
    """Return the answer, or `unreachable` of the error's first line after any error, so that the status never fails."""
    try:
        return ask()
    except Exception as error:
        return unreachable(str(error).strip().partition("\n")[0])
