"""Watches servers, workers and copies, and sends alerts about those that do not answer or are too far behind.

We keep outages and undelivered messages about them in memory and in a file. So the watch needs neither the control
database nor Dagster, and it continues on a full disk. When the control database answers, we record sent messages there,
beside all other messages (`tieout alerts`).

Belongs here: one look, the file, sending. Does not belong here: when people are told, and the texts
(`repair/alerts/outages.py`); whether a server answers (`stack/looking/servers.py`); how often we look
(`stack/upkeep/loops.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

import msgspec
import psycopg

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from contracts.text import counted
from repair.alerts.deciding import ATTEMPTS_MAX, retry_at
from repair.alerts.outages import About, Outage, Trouble, observe
from repair.alerts.queue import Message, record_direct
from repair.alerts.sending import Target, build_targets, delivered
from stack.files import write_private
from stack.looking.servers import ANSWER_SECONDS, RUNNING, ServerSeen, look
from stack.processes import stopped
from stack.processes.supervision import STEADY_SECONDS, ProgramState, Supervisor

FOLDER = "watch"
FILE = "outages.json"
NO_TARGET = "No target is set."
WORKER_PATIENCE_SECONDS = 45.0

logger = logging.getLogger("tieout.watch")


@dataclass(kw_only=True)
class Unsent:
    """A message and the state of its delivery: the targets that have it, attempts, the last error."""

    message: Message
    written_at: datetime
    next_attempt_at: datetime
    attempts: int = 0
    delivered_to: list[str] = field(default_factory=list)
    sent_at: datetime | None = None
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether no further attempt is needed or allowed."""
        return self.sent_at is not None or bool(self.message.not_sent_because) or self.attempts >= ATTEMPTS_MAX


@dataclass(kw_only=True)
class Kept:
    """The state that is kept between looks."""

    outages: list[Outage] = field(default_factory=list)
    messages: list[Unsent] = field(default_factory=list)


def server_troubles(servers: Sequence[ServerSeen], refusal: str = "") -> list[Trouble]:
    """Return the troubles of servers; `refusal` is why ended servers cannot be started again."""
    why = f"; it cannot be started again: {refusal.rstrip('.')}" if refusal else ""
    return [
        Trouble(
            name=f"{server.kind} {server.name}",
            sentence=f"{server.sentence}{why}",
            needs_person=bool(refusal),
            when_down=server.when_down,
            look=f"tieout status; {server.name}.log in var/logs",
        )
        for server in servers
        if server.state != RUNNING
    ]


def worker_troubles(workers: Sequence[ProgramState]) -> list[Trouble]:
    """Return the troubles of workers that do not run or end repeatedly."""
    return [
        Trouble(
            name=f"worker {worker.name}",
            sentence=f"worker {worker.name} does not keep running ({worker.state}, "
            f"started again {counted(worker.restarts, 'time')}): {worker.refusal or worker.detail}",
            needs_person=bool(worker.refusal),
            look=f"tieout status; {worker.name}.log in var/logs",
            about=About.WORKER,
            patience_seconds=WORKER_PATIENCE_SECONDS,
        )
        for worker in workers
        if worker.refusal or worker.state != "running" or worker.seconds is None or worker.seconds < STEADY_SECONDS
    ]


@dataclass(kw_only=True)
class Watch:
    """One stack's watch. Only one process at a time may use it."""

    settings: Settings
    targets: Sequence[Target]
    look: Callable[[], Sequence[ServerSeen]]
    workers: Callable[[], Sequence[ProgramState]]
    others: Callable[[], Sequence[Trouble]] = tuple
    """Returns the last troubles of copies that are too far behind, and of Dagster's pages."""
    servers_refusal: Callable[[], str] = str
    """Returns why ended servers cannot be started again; empty when they can."""
    clock: Clock = utc_now
    kept: Kept = field(default_factory=Kept)

    @property
    def file(self) -> Path:
        """The file of outages and messages."""
        return self.settings.var_dir / FOLDER / FILE

    def load(self) -> None:
        """Load the state of an earlier process; ignore a file that cannot be read.

        We drop the outages of workers of which people were not told. The workers were started with this process, so
        their waiting time begins again, and their state before `down` is not an outage now.
        """
        with suppress(OSError, msgspec.MsgspecError):
            self.kept = msgspec.json.decode(self.file.read_bytes(), type=Kept)
        self.kept.outages = [one for one in self.kept.outages if one.is_told or one.about is not About.WORKER]

    def look_once(self) -> bool:
        """Look, send the messages that are due, and return whether something is down."""
        servers = server_troubles(self.look(), self.servers_refusal())
        # When a server is down, its workers and copies fail, too. So we report only the servers.
        others = self._as_told() if servers else [*worker_troubles(self.workers()), *self.others()]
        found = [*servers, *others]
        now = self.clock()
        observed = observe({one.name: one for one in self.kept.outages}, found, now)
        before = asdict(self.kept)
        self.kept.outages = list(observed.outages)
        self.kept.messages += [self._unsent(message, now) for message in observed.messages]
        self._send(now)
        if not any(one.name == "PostgreSQL control" for one in self.kept.outages):
            self._record()
        if asdict(self.kept) != before:
            self._save()
        return bool(found)

    def told_copies(self) -> set[str]:
        """Return the copies of which people were told that they are behind."""
        return {one.name for one in self.kept.outages if one.is_told and one.about is About.COPY}

    def _as_told(self) -> list[Trouble]:
        """Return the reported outages of workers and copies, because we cannot look at them while a server is down."""
        told = [one for one in self.kept.outages if one.is_told and one.about is not About.SERVER]
        return [Trouble(name=one.name, sentence=one.sentence, about=one.about) for one in told]

    def _unsent(self, message: Message, now: datetime) -> Unsent:
        logger.warning("%s", message.title)
        if not self.targets:
            message = replace(message, not_sent_because=NO_TARGET)
        return Unsent(message=message, written_at=now, next_attempt_at=now)

    def _send(self, now: datetime) -> None:
        for unsent in self.kept.messages:
            if not unsent.is_done and unsent.next_attempt_at <= now:
                self._try(unsent, now)

    def _try(self, unsent: Unsent, now: datetime) -> None:
        errors = []
        for target in self.targets:
            if target.fingerprint not in unsent.delivered_to:
                if error := delivered(target, unsent.message.title, unsent.message.body):
                    errors.append(f"{target!r} {error}")
                else:
                    unsent.delivered_to.append(target.fingerprint)
        unsent.attempts += 1
        unsent.error = "; ".join(errors)
        unsent.sent_at = None if errors else self.clock()
        unsent.next_attempt_at = retry_at(now, unsent.attempts)

    def _record(self) -> None:
        """Move finished messages to the control database; when it does not answer, keep them for the next look."""
        for unsent in [one for one in self.kept.messages if one.is_done]:
            try:
                record_direct(
                    self.settings.control_dsn,
                    unsent.message,
                    written_at=unsent.written_at,
                    sent_at=unsent.sent_at,
                    delivered_to=unsent.delivered_to,
                    connect_seconds=ANSWER_SECONDS,
                )
            except psycopg.Error as error:
                logger.info("What was sent is put on record later: %s", type(error).__name__)
                return
            self.kept.messages.remove(unsent)

    def _save(self) -> None:
        try:
            write_private(self.file, msgspec.json.encode(self.kept).decode())
        except OSError as error:
            logger.warning("What people were told is kept in memory only: %s", error)


def build_watch(settings: Settings) -> Watch:
    """Return the watch of the stack of these settings, with the state of an earlier process."""
    watch = Watch(
        settings=settings,
        targets=build_targets(settings.alert_urls),
        look=lambda: look(settings),
        workers=Supervisor(var_dir=settings.var_dir).states,
        servers_refusal=lambda: stopped.of_servers(settings.var_dir),
    )
    watch.load()
    return watch
