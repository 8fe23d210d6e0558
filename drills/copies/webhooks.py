"""Webhooks in drills: a merchant's system on loopback that is told of the drill's sales, and keeps every message.

Belongs here: that system, what it must have been told, and what is done to the notes. Does not belong here: steps for
every copy (`drills/cells.py`), endpoints that refuse or are slow (`tests/integration/test_webhooks.py`).
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psycopg

from contracts.drills import Promise
from contracts.text import counted
from contracts.waiting import comes_true
from contracts.webhooks import EVENT_TYPES, MESSAGE_ID, TOLD_AGGREGATES
from drills import decisions, probes
from drills.scene import PATIENCE_SECONDS
from drills.system import LOG_SERVER
from drills.trading import Sale, merchant_of

if TYPE_CHECKING:
    from drills.scene import Scene

LOOPBACK = "127.0.0.1"
TAKEN, NOT_NOW = 204, 503

# The HTTP interface, which registers endpoints, does not run in a drill.
_REGISTER = """
insert into webhooks.endpoints (
    endpoint_id, merchant_id, url, event_types, description, is_enabled, version, secret_number, created_at, changed_at
) values (%s, %s, %s, %s, 'of a drill', true, 1, 1, now(), now())
"""
_REMOVE = """
update webhooks.endpoints set deleted_at = now(), changed_at = now(), version = version + 1, is_enabled = false
where endpoint_id = %s
"""
_IS_SUBSCRIBED = """
select exists (select from webhooks.subscriptions where endpoint_id = %s and pod = %s and until_cut is null)
"""
_WAITING = "select event_id from webhooks.deliveries where endpoint_id = %s and pod = %s and state = 'waiting'"
_COUNT = "select (select count(*) from webhooks.deliveries), (select count(*) from webhooks.positions)"
_LOSE = ("delete from webhooks.deliveries", "delete from webhooks.positions")
_EVENTS = "select event_id::text from oltp.outbox where merchant_id = %s and aggregate_type = any(%s)"


@dataclass(frozen=True)
class Told:
    """One message that a merchant's system has taken."""

    pod: str
    message_id: str
    event: tuple[str, ...]
    """What it is about: the subject's type, id and version, and the event's type."""


@dataclass(kw_only=True)
class MerchantSystem:
    """The systems of the drill's merchants: one receiver, and one endpoint per pod."""

    scene: Scene
    is_open: bool = True
    """False: it answers that it cannot take anything now."""
    told: list[Told] = field(default_factory=list)
    endpoints: dict[str, str] = field(default_factory=dict)
    """Pod -> the endpoint of its merchant."""
    earlier: dict[str, frozenset[str]] = field(default_factory=dict)
    """Pod -> the events that were committed before its endpoint was told anything."""

    def take(self, path: str, message_id: str, body: bytes) -> int:
        """Keep a message, and return the status that answers it."""
        if not self.is_open:
            return NOT_NOW
        said = json.loads(body)
        subject = said["subject"]
        event = (subject["type"], subject["id"], str(subject["version"]), said["type"])
        self.told.append(Told(pod=path.strip("/"), message_id=message_id, event=event))
        return TAKEN

    def ids(self, pod: str) -> Counter[str]:
        """Return how often each message of a pod was taken."""
        return Counter(one.message_id for one in self.told if one.pod == pod)

    def due(self, pod: str) -> frozenset[str]:
        """Return the events of which a pod's merchant must have been told."""
        return self.events(pod) - self.earlier[pod]

    def events(self, pod: str) -> frozenset[str]:
        """Return all events of a pod's merchant that can be told."""
        with psycopg.connect(self.scene.system.settings.pod(pod).reader_dsn) as connection:
            rows = connection.execute(_EVENTS, (merchant_of(pod), list(TOLD_AGGREGATES))).fetchall()
        return frozenset(row[0] for row in rows)

    def has_all(self, pod: str) -> bool:
        """Return whether a pod's merchant was told everything, and nothing waits for it."""
        return self.due(pod) <= set(self.ids(pod)) and not self.waiting(pod)

    def await_all(self) -> None:
        """Wait until every merchant was told everything."""
        for pod in self.scene.pods:
            self.scene.require(partial(self.has_all, pod), f"the merchant of {pod} was not told everything")

    def waiting(self, pod: str) -> frozenset[str]:
        """Return the messages that wait for a pod's merchant."""
        return frozenset(row[0] for row in self.ask(_WAITING, self.endpoints[pod], pod))

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what the control database answers."""
        with psycopg.connect(self.scene.system.settings.control_dsn) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def register(self, port: int) -> None:
        """Register the endpoints, and wait until every pod tells them what is committed from then on."""
        for pod in self.scene.pods:
            self.endpoints[pod] = endpoint_id = f"we_drill_{uuid.uuid4().hex[:12]}"
            url = f"http://{LOOPBACK}:{port}/{pod}"
            self.ask(_REGISTER, endpoint_id, merchant_of(pod), url, list(EVENT_TYPES))
        for pod, endpoint_id in self.endpoints.items():
            self.scene.require(
                lambda pod=pod, endpoint_id=endpoint_id: self.ask(_IS_SUBSCRIBED, endpoint_id, pod)[0][0],  # type: ignore[misc]
                f"the endpoint of the merchant of {pod} is not subscribed",
            )
            self.earlier[pod] = self.events(pod)

    def remove(self) -> None:
        """Remove the endpoints; a database that is away keeps them, and what they get is compared as before."""
        with suppress(psycopg.Error):
            for endpoint_id in self.endpoints.values():
                self.ask(_REMOVE, endpoint_id)


@contextmanager
def merchants_of(scene: Scene) -> Iterator[MerchantSystem]:
    """Run the merchants' systems, with their endpoints."""
    system = MerchantSystem(scene=scene)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # its sender was killed in the middle
            self.send_response(system.take(self.path, self.headers[MESSAGE_ID], body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="merchant-system")
    thread.start()
    try:
        system.register(server.server_address[1])
        yield system
    finally:
        system.remove()
        server.shutdown()
        server.server_close()
        thread.join()


# What is done to the notes


def replay(scene: Scene) -> None:
    """Replay: all notes and positions are lost; a comparison finds it, and everything is told again with its id."""
    with merchants_of(scene) as merchants:
        for pod in scene.pods:
            scene.trader.ship(pod, scene.trader.sell(pod).order)
        merchants.await_all()
        before = {pod: merchants.ids(pod) for pod in scene.pods}
        scene.stop_copy()
        _lose_notes(scene, merchants)
        probes.trade(scene)
        scene.start_copy()
        scene.catch_up()
        _repair(scene, merchants, before)
        _prove(scene, merchants)


def _lose_notes(scene: Scene, merchants: MerchantSystem) -> None:
    ((notes, positions),) = merchants.ask(_COUNT)
    for statement in _LOSE:
        merchants.ask(statement)
    (left,) = merchants.ask(_COUNT)
    scene.note(
        Promise.IS_GONE,
        scene.drill.copy.name,
        expected="something there before, nothing left",
        seen=f"{counted(notes, 'note')} and {counted(positions, 'position')} before, {sum(left)} left",
        is_ok=min(notes, positions) > 0 == sum(left),
    )


def _repair(scene: Scene, merchants: MerchantSystem, before: Mapping[str, Counter[str]]) -> None:
    """Compare and repair as the runbook says, and note whether what was told before the loss is told again."""
    (pair,) = scene.drill.pairs
    compared = scene.system.run(["reconcile", "--pair", pair, "--json"])
    repaired = scene.system.run(["repair", "--pair", pair, "--json"])
    for pod, messages in before.items():
        comes_true(partial(_all_again, merchants, pod, messages), seconds=PATIENCE_SECONDS)
        again = len(_again(merchants, pod, messages))
        scene.note(
            Promise.IS_REBUILT,
            f"tieout repair, {pod}",
            expected=f"a comparison that finds it, exit code 0, and {counted(len(messages), 'message')} once more",
            seen=f"comparison: exit code {compared.exit_code}; repair: exit code {repaired.exit_code}, "
            f"{again} told again" + (f"; {repaired.complaint}" if repaired.exit_code else ""),
            is_ok=compared.exit_code == 1 and repaired.exit_code == 0 and again == len(messages) > 0,
        )


def _again(merchants: MerchantSystem, pod: str, before: Counter[str]) -> list[str]:
    now = merchants.ids(pod)
    return [message_id for message_id, times in before.items() if now[message_id] > times]


def _all_again(merchants: MerchantSystem, pod: str, before: Counter[str]) -> bool:
    return len(_again(merchants, pod, before)) == len(before)


def fall_behind(scene: Scene) -> None:
    """Lag: the workers are stopped while orders come in; merchants are told late, and of everything."""
    with merchants_of(scene) as merchants:
        for pod in scene.pods:
            scene.trader.sell(pod)
        merchants.await_all()
        scene.stop_copy()
        probes.trade(scene)
        probes.lag_is_reported(scene)
        probes.late_is_not_wrong(scene)
        scene.start_copy()
        _prove(scene, merchants)


def read_stale(scene: Scene) -> None:
    """Stale read: a merchant's system does not know of a refund and a cancellation; OLTP refuses what it then does."""
    with merchants_of(scene) as merchants:
        sales = [scene.trader.sell(pod) for pod in scene.pods]
        unpaid = {pod: scene.trader.place_unpaid(pod) for pod in scene.pods}
        merchants.await_all()
        before = {pod: merchants.ids(pod) for pod in scene.pods}
        scene.stop_copy()
        for sale in sales:
            scene.trader.refund(sale)
            scene.trader.cancel(sale.pod, unpaid[sale.pod])
            _knows_what_it_knew(scene, merchants, sale, before[sale.pod])
            wrong: Mapping[str, Callable[[], object]] = {
                "refunding again": partial(scene.trader.refund, sale),
                "shipping what was cancelled": partial(scene.trader.ship, sale.pod, unpaid[sale.pod]),
            }
            decisions.refuses(scene, sale.pod, wrong)
        scene.start_copy()
        _prove(scene, merchants)


def _knows_what_it_knew(scene: Scene, merchants: MerchantSystem, sale: Sale, before: Counter[str]) -> None:
    now, due = merchants.ids(sale.pod), merchants.due(sale.pod)
    scene.note(
        Promise.SERVES_WHAT_IT_HAS,
        f"merchant of {sale.pod}",
        expected=f"the {counted(len(before), 'message')} of before, and nothing of what came since",
        seen=f"{counted(len(now), 'message')}; {counted(len(due - set(now)), 'event')} not told",
        is_ok=bool(now) and now == before and bool(due - set(now)),
    )


def lose_server(scene: Scene) -> None:
    """Source outage: the log is away; what is noted is told all the same, and the rest when the log is back."""
    states = scene.system.worker_states()
    with merchants_of(scene) as merchants:
        merchants.is_open = False
        for pod in scene.pods:
            scene.trader.sell(pod)
            scene.require(
                lambda pod=pod: merchants.due(pod) <= merchants.waiting(pod),  # type: ignore[misc]
                f"what the merchant of {pod} must be told does not wait for it",
            )
        noted = {pod: merchants.waiting(pod) for pod in scene.pods}
        scene.system.kill_server(LOG_SERVER)
        scene.breaks()
        merchants.is_open = True
        _tells_what_waits(scene, merchants, noted)
        probes.trade(scene)
        probes.outage_is_reported(scene, scene.copy_states)
        scene.system.start_server(LOG_SERVER)
        probes.comes_back(scene, states)
        _prove(scene, merchants)


def _tells_what_waits(scene: Scene, merchants: MerchantSystem, noted: Mapping[str, frozenset[str]]) -> None:
    for pod, messages in noted.items():
        comes_true(lambda pod=pod, messages=messages: messages <= set(merchants.ids(pod)), seconds=PATIENCE_SECONDS)  # type: ignore[misc]
        told = len(messages & set(merchants.ids(pod)))
        scene.note(
            Promise.SERVES_WHAT_IT_HAS,
            f"merchant of {pod}",
            expected=f"told of what waited, {counted(len(messages), 'message')}",
            seen=f"{told} told while the log is away",
            is_ok=bool(messages) and told == len(messages),
        )


def _prove(scene: Scene, merchants: MerchantSystem) -> None:
    """Catch up, tell what waits, compare the notes, and count what merchants' systems were told."""
    scene.catch_up()
    for pod in scene.pods:
        comes_true(partial(merchants.has_all, pod), seconds=PATIENCE_SECONDS)
    scene.compare_equal()
    for pod in scene.pods:
        ids, due, known = set(merchants.ids(pod)), merchants.due(pod), merchants.events(pod)
        events = {one.event for one in merchants.told if one.pod == pod}
        scene.note(
            Promise.NOTHING_LOST_OR_DOUBLE,
            pod,
            expected=f"told of {counted(len(due), 'event')} of its own and no other, each with one id, however often",
            seen=f"{len(due & ids)} told, {len(due - ids)} lost, {len(ids - known)} of nobody, "
            f"{counted(len(ids), 'id')} for {counted(len(events), 'event')}",
            is_ok=bool(due) and due <= ids <= known and len(ids) == len(events),
        )
