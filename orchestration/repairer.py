"""The repairer: a worker that repairs at once, because it has imported Dagster and the jobs before a break is found.

    python -m orchestration.repairer

It looks at the ledger of breaks every second. When a pod is ready for its repair (`orchestration/repairs.py`), it
creates a run of the pod's job and executes it in a thread of this process. For Dagster it is a run as any other: it has
the code location, the tags and the run key that the sensor's run would have, it takes a place of the run queue, and an
engine event names this process. So Dagster's monitoring fails the run if this process ends, and the next repairer does
so at its start. It also enters what comparisons found outside Dagster, as soon as a check fails or passes again.

The sensor requests the same repairs when this worker does not look. A run that waits in Dagster's queue, e.g. one that
a person launched, gets a process of its own, and this worker does not touch it.

Belongs here: looking every second, and executing a repair in this process. Does not belong here: which pods are ready,
the jobs (`orchestration/repairs.py`), what an evaluation says (`orchestration/known.py`).
"""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run_iterator
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.tags import MAX_RETRIES_TAG, RUN_KEY_TAG
from dagster._serdes import ConfigurableClassData

from assets.platform import PLATFORM, Platform
from contracts.pandas_apart import keep_pandas_out
from contracts.runs import BY_TAG, REPAIRER
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from orchestration.known import comparisons, is_repairing
from orchestration.launcher import processes_that_live
from orchestration.repairs import job_name, repair_job, repair_queue, request_for
from orchestration.resources import build_platform
from reconcile.connections import Connections
from reconcile.results import latest_results
from repair.ledger.incidents import Waiting
from repair.ledger.looks import look, state_look
from stack.composition.kept_builder import KeptBuilder
from stack.files import keep_private
from stack.processes.dagster_home import CodeLocation, code_locations
from stack.scrubbing import scrubber
from stack.settings import ROOT, load_settings
from stack.upkeep.growth import begin_anew, is_too_large
from stack.upkeep.worker import stop_without_parent

LOOK_SECONDS = 1.0
STATED_SECONDS = 5.0
"""It states this often that it looks."""
AGAIN_SECONDS = 10.0
"""The second attempt at a break begins this long after the first has ended, the third after twice as long."""
PREPARED_SECONDS = 60.0
"""The builder of the warehouse is started this long after the repairer: a system that starts has enough to do."""
END_SECONDS = 25.0
"""How long a stopped repairer waits for its repairs; the supervisor kills it five seconds later."""
HUNG_SECONDS = 300.0
"""A look that has not ended by then never will: the process writes where it stands and ends, and the supervisor starts
another one."""
GONE = "The process that executed it is gone; open breaks are repaired by another run."

logger = logging.getLogger("tieout.repairer")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where Dagster's pages look for the job of a run: a code location, and the module that it loads."""

    location: CodeLocation

    def remote(self, job: str) -> RemoteJobOrigin:
        """Return how the pages address a job."""
        server = GrpcServerCodeLocationOrigin(
            host="localhost", socket=str(self.location.socket), location_name=self.location.name
        )
        return RemoteRepositoryOrigin(server, SINGLETON_REPOSITORY_NAME).get_job_origin(job)

    def python(self, job: str) -> JobPythonOrigin:
        """Return how a process of its own would load a job, e.g. when a person executes the run again."""
        pointer = ModuleCodePointer(self.location.module, self.location.attribute, str(ROOT))
        repository = RepositoryPythonOrigin(sys.executable, pointer, entry_point=DEFAULT_DAGSTER_ENTRY_POINT)
        return JobPythonOrigin(job, repository)


@dataclass(kw_only=True)
class Repairer:
    """Looks for breaks and repairs them in threads of this process; `step` looks once."""

    settings: Settings
    instance: dg.DagsterInstance
    origin: Origin
    platform: Platform
    jobs: Mapping[str, dg.JobDefinition]
    """Pod -> the job that repairs it."""
    builder: KeptBuilder
    """Builds the warehouse for all repairs, one after the other; it is started before the first one needs it."""
    monotonic: Callable[[], float] = time.monotonic
    connections: Connections = field(default_factory=Connections)
    repairs: dict[str, tuple[str, threading.Thread]] = field(default_factory=dict)
    """Pod -> the run that repairs it, or did so last, and its thread."""
    threads: list[threading.Thread] = field(default_factory=list)
    """The threads that are alive, or were so at the last look."""
    ended_at: dict[str, float] = field(default_factory=dict)
    """Pod -> when its last repair ended."""
    began_at: float = field(default_factory=time.monotonic)
    stated_at: float | None = None
    moment: int | None = None
    """The ledger's counter at the last comparison whose verdicts were entered."""
    failing: frozenset[str] = frozenset()
    """The pairs that were not consistent when results were last looked at."""

    @property
    def is_at_work(self) -> bool:
        """Whether a repair is running."""
        return any(thread.is_alive() for thread in self.threads)

    def step(self) -> list[str]:
        """Look once: begin the repairs that are ready, enter new verdicts; return the pods whose repair began."""
        connection = self.connections.to(self.settings.control_dsn)
        now = self.monotonic()
        if self.stated_at is None or now - self.stated_at >= STATED_SECONDS:
            state_look(connection, REPAIRER)
            self.stated_at = now
            if now - self.began_at >= PREPARED_SECONDS:
                self.builder.prepare()
        seen = look(connection)
        # A repair enters its comparisons itself, and names itself in them. After it the moment still is another one.
        if seen.moment != self.moment and not is_repairing(self.instance, list(self.jobs)):
            self._enter()
            self.moment = seen.moment
        return self._begin() if seen.has_breaks else []

    def end_lost_runs(self) -> list[str]:
        """Fail the runs that an earlier repairer did not end, so that they do not keep their pods; return their ids."""
        filters = dg.RunsFilter(tags={BY_TAG: REPAIRER}, statuses=list(NOT_FINISHED_STATUSES))
        lost = [run for run in self.instance.get_runs(filters) if not processes_that_live(self.instance, run)]
        for run in lost:
            self.instance.report_run_failed(run, GONE)
        return [run.run_id for run in lost]

    def _begin(self) -> list[str]:
        queue = repair_queue(self.settings, self.instance)
        begun: list[str] = []
        for waiting in queue.ready:
            if waiting.pod not in self.jobs or self._is_to_wait(waiting, queue.building):
                continue
            request = request_for(waiting, queue.now)
            # The key is the same until breaks, attempts or the time for another attempt are others.
            if self.instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: str(request.run_key)})):
                continue
            if not self._has_place(queue.building):
                logger.info("The repair of %s waits: as many runs as may be are in progress", waiting.pod)
                break
            run = self._created(waiting.pod, request)
            thread = threading.Thread(target=self._execute, args=(waiting.pod, run), daemon=True)
            self.repairs[waiting.pod] = (run.run_id, thread)
            self.threads = [*(one for one in self.threads if one.is_alive()), thread]
            thread.start()
            begun.append(waiting.pod)
        return begun

    def _is_to_wait(self, waiting: Waiting, building: Collection[str]) -> bool:
        """Return whether a pod is being repaired, or was so just before another attempt at the same breaks.

        The runs `building` have given their pods back.
        """
        run_id, thread = self.repairs.get(waiting.pod, ("", None))
        if thread is not None and thread.is_alive() and run_id not in building:
            return True
        # What made an attempt fail, e.g. a server that starts again, lasts some seconds; attempts are few.
        pause = AGAIN_SECONDS * (waiting.attempt - 1)
        return self.monotonic() - self.ended_at.get(waiting.pod, -math.inf) < pause

    def _has_place(self, building: Collection[str]) -> bool:
        """Return whether the run queue would let another run begin; runs that only build any more take no place."""
        queue = self.instance.get_concurrency_config().run_queue_config
        allowed = -1 if queue is None else queue.max_concurrent_runs
        in_progress = self.instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES)))
        return allowed < 0 or sum(run.run_id not in building for run in in_progress) < allowed

    def _created(self, pod: str, request: dg.RunRequest) -> dg.DagsterRun:
        job = self.jobs[pod]
        # Breaks that are left are requested again; Dagster is not to do so, too, when this process has ended.
        own = {RUN_KEY_TAG: str(request.run_key), BY_TAG: REPAIRER, MAX_RETRIES_TAG: "0"}
        run = self.instance.create_run_for_job(
            job,
            tags={**job.run_tags, **request.tags, **own},
            remote_job_origin=self.origin.remote(job.name),
            job_code_origin=self.origin.python(job.name),
        )
        self.instance.report_engine_event(
            f"The repairer executes the run in its own process (pid: {os.getpid()}).",
            run,
            EngineEventData.in_process(os.getpid()),
        )
        return run

    def _execute(self, pod: str, run: dg.DagsterRun) -> None:
        try:
            for _ in execute_run_iterator(InMemoryJob(self.jobs[pod]), run, self.instance):
                pass
        except Exception as error:  # any error of Dagster: no other code would end the run, and it would keep its pod
            said = scrubber(self.settings)(" ".join(f"{type(error).__name__}: {error}".split()))
            logger.warning("Run %s could not be executed: %s", run.run_id, said)
            left = self.instance.get_run_by_id(run.run_id)
            if left is not None and not left.is_finished:
                self.instance.report_run_failed(left, said)
        finally:
            self.ended_at[pod] = self.monotonic()

    def _enter(self) -> None:
        """Enter the verdicts of checks that fail or failed before. The sensor enters a pass that follows a pass."""
        try:
            self._enter_results(latest_results(self.settings.control_dsn))
        except Exception as error:  # any error: the repair does not wait for it, and the sensor enters them later
            said = scrubber(self.settings)(" ".join(f"{type(error).__name__}: {error}".split()))
            logger.warning("What was compared could not be entered: %s", said)

    def _enter_results(self, results: Sequence[PairResult]) -> None:
        failing = frozenset(result.pair for result in results if result.verdict is not Verdict.CONSISTENT)
        concerned = [one for one in results if one.pair in failing | self.failing]
        if concerned:
            for event in comparisons(self.platform, concerned, self.instance, is_first_left_out=True):
                self.instance.report_runless_asset_event(event)
        self.failing = failing


def build_repairer(settings: Settings, instance: dg.DagsterInstance, location: CodeLocation) -> Repairer:
    """Return a repairer with the jobs of all pods; it connects to nothing yet."""
    pods = [pod.pod for pod in settings.pods]
    builder = KeptBuilder(settings=settings)
    platform = build_platform(settings, kept_builder=builder)
    definitions = dg.Definitions(
        jobs=[repair_job(pod) for pod in pods],
        resources={PLATFORM: platform},
        executor=dg.in_process_executor,
    )
    return Repairer(
        settings=settings,
        instance=instance,
        origin=Origin(location=location),
        platform=platform,
        builder=builder,
        jobs={pod: definitions.resolve_job_def(job_name(pod)) for pod in pods},
    )


@contextmanager
def instance_for_threads() -> Iterator[dg.DagsterInstance]:
    """Yield Dagster's instance of this environment without what a run changes in its whole process.

    The capture of a step's output redirects that of the process: two repairs at once would leave it redirected to the
    files of one of them, and with it this worker's log. A run also configures Python's logging anew, and for that waits
    for every handler while it holds the lock of all loggers. A repair that logs holds its handler and needs that lock,
    so the two would wait for each other for ever. Here the configured handlers are made once.
    """
    nowhere = ConfigurableClassData(NoOpComputeLogManager.__module__, NoOpComputeLogManager.__name__, "{}\n")
    with dg.DagsterInstance.get() as known:
        reference = known.get_ref()._replace(compute_logs_data=nowhere)
    with dg.DagsterInstance.from_ref(reference) as instance:
        handlers = list(instance.get_yaml_python_handlers())
        instance.get_yaml_python_handlers = lambda: handlers  # type: ignore[method-assign]
        yield instance


def run_repairer(repairer: Repairer, stop: threading.Event, changed: threading.Event) -> bool:
    """Look until `stop` is set; return whether the process is to begin anew.

    It begins anew between two repairs when it has grown too large, or when `changed` says that the code has changed.
    """
    clean, last = scrubber(repairer.settings), ""
    is_begun = False
    while not stop.wait(LOOK_SECONDS):
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
        try:
            if not is_begun:
                repairer.end_lost_runs()
                is_begun = True
            repairer.step()
            last = ""
        except Exception as error:  # any error, e.g. a database is away: the next look may succeed
            said = clean(f"{type(error).__name__}: {error}")
            if said != last:
                logger.warning("It is tried again every %g s: %s", LOOK_SECONDS, said)
            last = said
            continue
        if repairer.is_at_work:
            continue
        if changed.is_set():
            break
        if is_too_large(repairer.settings.repairer_memory_mb):
            logger.info("It holds more memory than TIEOUT_REPAIRER_MEMORY_MB allows, and begins anew")
            break
    faulthandler.cancel_dump_traceback_later()
    deadline = time.monotonic() + END_SECONDS
    for thread in repairer.threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not stop.is_set()


def main() -> int:
    """Run the worker until SIGTERM; SIGHUP makes it load changed code."""
    keep_private()
    keep_pandas_out()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop, changed = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: changed.set())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=stop_without_parent, args=(stop, os.getppid()), daemon=True).start()
    settings = load_settings()
    (location,) = code_locations(ROOT / "workspace.yaml", settings.var_dir / "dagster")
    with instance_for_threads() as instance:
        repairer = build_repairer(settings, instance, location)
        is_anew = run_repairer(repairer, stop, changed)
        repairer.builder.close()
    if is_anew:
        begin_anew("orchestration.repairer")
    # A repair that did not end in time is in a thread that cannot be ended otherwise.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
