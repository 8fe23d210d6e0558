"""The watch tells people although nothing else answers, remembers it in a file, and puts it on record later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.settings import Settings
from repair.alerts.outages import NEEDS_PERSON
from repair.alerts.sending import Target
from stack.looking.servers import ServerSeen
from stack.processes.supervision import ProgramState
from stack.upkeep.pages_watch import PagesWatch
from stack.upkeep.watching import Watch
from tests.values import settings_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOBODY = "postgresql://someone:secret@127.0.0.1:9/nowhere"


def server(name: str, state: str = "running") -> ServerSeen:
    reason = "" if state == "running" else "connection refused"
    return ServerSeen(
        name=name, kind="PostgreSQL", address="127.0.0.1:9", holds=(name,), state=state, reason=reason, silent=()
    )


@dataclass
class People:
    """Who is told; while `refusal` is set they take nothing."""

    refusal: str = ""
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def target(self) -> Target:
        def deliver(title: str, body: str) -> str:
            assert "secret" not in body
            if not self.refusal:
                self.titles.append(title)
                self.bodies.append(body)
            return self.refusal

        return Target(number=1, fingerprint="f", scheme="test", deliver=deliver)


@dataclass
class Place:
    """A stack that is watched."""

    settings: Settings
    people: People = field(default_factory=People)
    servers: Sequence[ServerSeen] = (server("pod1"), server("control"))
    workers: Sequence[ProgramState] = ()
    now: datetime = NOW

    def watch(self) -> Watch:
        watch = Watch(
            settings=self.settings,
            targets=[self.people.target()],
            look=lambda: self.servers,
            workers=lambda: self.workers,
            clock=lambda: self.now,
        )
        watch.load()
        return watch

    def after(self, watch: Watch, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return watch.look_once()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        settings=settings_of(tmp_path, dsn=NOBODY, log_url="redis://127.0.0.1:9/0", lake_data_path=str(tmp_path))
    )


def test_the_control_database_itself_is_told_of_and_a_new_process_goes_on(place: Place) -> None:
    watch = place.watch()
    place.servers = (server("pod1"), server("control", "down"))
    assert place.after(watch, 0) and place.people.titles == []
    place.after(watch, 25)
    assert place.people.titles == ["[Tieout] Down: PostgreSQL control"]
    another = place.watch()
    place.after(another, 5)
    place.servers = (server("pod1"), server("control"))
    assert not place.after(another, 60)
    assert place.people.titles == ["[Tieout] Down: PostgreSQL control", "[Tieout] Answers again: PostgreSQL control"]
    # Nothing is lost while the record cannot be written.
    assert [one.message.title for one in place.watch().kept.messages] == place.people.titles


def test_who_did_not_take_a_message_gets_it_later_and_once(place: Place) -> None:
    watch = place.watch()
    place.servers, place.people.refusal = (server("pod1", "down"),), "could not be reached"
    place.after(watch, 0)
    place.after(watch, 25)
    (unsent,) = watch.kept.messages
    assert unsent.error == "target 1 (test) could not be reached" and unsent.attempts == 1
    place.people.refusal = ""
    place.after(watch, 10)
    assert place.people.titles == []
    for _ in range(3):
        place.after(watch, 30)
    assert place.people.titles == ["[Tieout] Down: PostgreSQL pod1"]


def test_a_full_disk_costs_the_file_and_nothing_else(place: Place) -> None:
    place.settings = replace(place.settings, var_dir=Path("/proc/nowhere"))
    watch = place.watch()
    place.servers = (server("pod1", "down"),)
    place.after(watch, 0)
    place.after(watch, 25)
    assert place.people.titles == ["[Tieout] Down: PostgreSQL pod1"]


def test_a_worker_that_ends_again_and_again_is_told_of_unless_a_server_is_down(place: Place) -> None:
    def worker(seconds: float) -> ProgramState:
        return ProgramState(name="relay-pod1", state="running", detail="", process_id=1, restarts=4, seconds=seconds)

    watch = place.watch()
    place.workers = [worker(45.0)]
    assert not place.after(watch, 0)
    place.workers = [worker(25.0)]
    for _ in range(5):
        assert place.after(watch, 10)
    assert place.people.titles == []
    place.after(watch, 10)
    assert place.people.titles == ["[Tieout] Down: worker relay-pod1"]
    place.servers = (server("pod1", "down"),)
    place.after(watch, 10)
    place.after(watch, 25)
    assert place.people.titles[-1] == "[Tieout] Down: PostgreSQL pod1"


@pytest.mark.parametrize("what", ["worker", "server"])
def test_what_does_not_go_on_by_itself_is_told_with_its_reason_and_without_comfort(place: Place, what: str) -> None:
    reason = "The data of pod1 are gone."
    if what == "worker":
        state = ProgramState(name="relay-pod1", state="running", detail="", process_id=1, seconds=90.0, refusal=reason)
        place.workers = [state]
    else:
        place.servers = (server("pod1", "down"),)
    watch = place.watch()
    watch.servers_refusal = lambda: reason
    for seconds in (0, 50):
        place.after(watch, seconds)
    (body,) = place.people.bodies
    assert reason.rstrip(".") in body and NEEDS_PERSON in body
    assert "loses nothing" not in body and "starts again" not in body


def test_pages_that_cannot_be_used_are_told_of_after_minutes_with_the_reason(place: Place) -> None:
    missing = "location tieout is in error (dagster-code-tieout.log)"
    watch, pages = place.watch(), PagesWatch(missing=lambda: missing)
    watch.others = lambda: pages.troubles
    pages.look_once()
    for _ in range(11):
        place.after(watch, 29)
    assert place.people.titles == []
    place.after(watch, 29)
    assert place.people.titles == ["[Tieout] Down: Dagster's pages"]
    assert missing in place.people.bodies[0]
    missing = ""
    pages.look_once()
    place.after(watch, 5)
    assert place.people.titles[-1] == "[Tieout] Answers again: Dagster's pages"


def test_workers_that_were_just_started_are_no_outage_because_of_what_was_before_down(place: Place) -> None:
    """Down a few seconds after up, and up again a minute later: nothing has ended by itself."""

    def young(seconds: float) -> None:
        place.workers = [
            ProgramState(name="lake-pod1", state="running", detail="", process_id=1, seconds=seconds),
        ]

    watch = place.watch()
    young(5.0)
    place.after(watch, 0)
    again = place.watch()
    for seconds in (2.0, 12.0, 22.0, 32.0, 42.0):
        young(seconds)
        place.after(again, 60 if seconds == 2.0 else 10)
    assert place.people.titles == []
    young(12.0)
    for _ in range(6):
        place.after(again, 10)
    assert place.people.titles == ["[Tieout] Down: worker lake-pod1"]
    later = place.watch()
    young(100.0)
    place.after(later, 60)
    assert place.people.titles[-1] == "[Tieout] Answers again: worker lake-pod1", "what people were told is ended"
