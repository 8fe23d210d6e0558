"""Webhooks on real servers: events are noted with the log's position, sent in order and signed, proven by the lake.

Endpoints that are down, slow or answer nonsense, senders that are killed, notes that are lost or forged.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from api.webhooks.store import Done, EndpointStore, Wanted
from bench.repair_ways import InProcess, run_round
from contracts.breaks import BreakState
from contracts.errors import ConflictError
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from contracts.webhooks import EVENT_TYPES
from derived.webhooks.sending import run_sending
from derived.webhooks.standing import stopped_endpoints
from drills.damages.rounds import ROUNDS
from reconcile.comparison_run import run_pairs
from reconcile.copies import webhooks
from reconcile.results import save_results
from reconcile.sweep import SweepPlan
from repair import ledger
from repair.repair_run import repair_breaks
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.projections import observed_projection
from stack.composition.repairing import repairing_tools
from stack.composition.webhook_sending import PAIR, sending_of
from stack.composition.webhooks import endpoint_store, replay_now, skip_now, standing_json, standings_of
from stack.settings import ROOT
from stack.upkeep.webhook_watch import WebhookWatch
from tests.integration.conftest import Run
from tests.integration.reconcile_world import Shop, carrying, open_shops, propagate
from tests.webhook_receiver import Received, Receiver, receiver

COPIES = ("lake", "webhooks")
PARTITIONS = 4
"""Each has a position, which is compared as well."""


@dataclass(kw_only=True)
class World:
    """Two pods with a merchant each, the lake, the notes, and a receiver on loopback."""

    settings: Settings
    shops: tuple[Shop, Shop]
    endpoints: EndpointStore
    receiver: Receiver
    keys: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    def register(self, path: str = "/hook", shop: int = 0, types: tuple[str, ...] = EVENT_TYPES) -> Done:
        wanted = Wanted(url=self.receiver.url(path), event_types=types)
        done = self.endpoints.register(self.shops[shop].merchant_id, wanted, idempotency_key=f"k{next(self.keys)}")
        return done

    def propagate(self) -> None:
        for pod in self.settings.pods:
            propagate(self.settings, pod, COPIES)

    @contextmanager
    def sending(self, **changes: Any) -> Iterator[None]:
        stop = threading.Event()
        how = [replace(sending_of(self.settings, pod.pod), **changes) for pod in self.settings.pods]
        threads = [threading.Thread(target=run_sending, args=(one, stop)) for one in how]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings.control_dsn) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def counts(self, endpoint_id: str) -> dict[str, int]:
        counted = "select state, count(*) from webhooks.deliveries where endpoint_id = %s group by state"
        return dict(self.query(counted, endpoint_id))

    def compare(self, pod: str = "pod1") -> PairResult:
        context = carrying(build_reconcile_context(self.settings, lag_seconds_max=10), self.settings, COPIES)
        (result,) = run_pairs(context, [PAIR], [pod])
        return result


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    settings = replace(settings, webhook_open_hosts=("127.0.0.1",), webhook_timeout_seconds=1)
    migrate_everything(settings)
    with endpoint_store(settings) as store, open_shops(settings) as shops, receiver() as hook:
        made = World(settings=settings, shops=shops, endpoints=store, receiver=hook)
        made.propagate()
        yield made


def types_of(events: list[dict[str, Any]]) -> set[str]:
    return {event["type"] for event in events}


def test_each_merchant_is_told_its_own_events_signed_and_in_order_and_that_is_proven(world: World) -> None:
    mine, other = world.register(), world.register("/other", shop=1, types=("order.placed",))
    world.shops[0].refunded()
    world.shops[1].refunded()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: not world.counts(mine.endpoint.endpoint_id).get("waiting"))
        world.receiver.wait(lambda: len(world.receiver.of("/other")) == 1)
    told = world.receiver.of("/hook")
    assert types_of(told) >= {"order.placed", "payment.captured", "fulfillment.shipped", "refund.completed"}
    assert {event["merchant_id"] for event in told} == {"united-kingdom"}
    assert [event["merchant_id"] for event in world.receiver.of("/other")] == ["eire"]
    assert mine.secret is not None and other.secret is not None
    for message in world.receiver.taken:
        own, foreign = (mine, other) if message.path == "/hook" else (other, mine)
        assert message.is_signed_with(own.secret or "") and not message.is_signed_with(foreign.secret or "")
        assert message.event["id"] == message.message_id
    by_subject: dict[str, list[int]] = {}
    for event in told:
        by_subject.setdefault(event["subject"]["id"], []).append(event["subject"]["version"])
    assert all(versions == sorted(versions) for versions in by_subject.values())
    (placed,) = [event for event in told if event["type"] == "order.placed"]
    assert (placed["format"], placed["data"]["currency"]) == (1, "GBP")
    assert placed["data"]["total_minor"] == sum(line["total_minor"] for line in placed["data"]["lines"])

    # What was committed before an endpoint was registered is none of its business; the rest is, exactly.
    result = world.compare()
    assert (result.verdict, result.compared, result.reason) == (Verdict.CONSISTENT, len(told) + PARTITIONS, "")
    ledger.record(world.settings.control_dsn, [result], run="one")
    save_results(world.settings.control_dsn, [result])
    (standing,) = standings_of(world.settings, endpoint_id=mine.endpoint.endpoint_id)
    (pod,) = [one for one in standing.pods if one.pod == "pod1"]
    assert (standing.state, pod.verdict, pod.complete_to_cut) == ("on", Verdict.CONSISTENT, result.cut)
    shown = standing_json(world.settings, standing)
    assert {one["complete_to_time"] is not None for one in shown["pods"] if one["pod"] == "pod1"} == {True}


def test_what_is_lost_or_forged_becomes_a_break_and_is_told_again(world: World) -> None:
    mine = world.register()
    world.shops[0].refunded()
    world.propagate()
    endpoint_id = mine.endpoint.endpoint_id
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    number = len(world.receiver.taken)
    (lost,) = world.query("delete from webhooks.deliveries where event_type = 'refund.completed' returning event_id")[0]
    # The id of an event of another merchant, which may be no less real.
    forged = "00000000-0000-7000-8000-000000000001"
    world.query(
        "insert into webhooks.deliveries select endpoint_id, %s, merchant_id, pod, epoch, cut, position, "
        "aggregate_type, aggregate_id, event_type, recorded_at, state, body, attempts, null, null, last_status, "
        "acknowledged_at from webhooks.deliveries where event_type = 'order.placed'",
        forged,
    )
    result = world.compare()
    assert result.verdict is Verdict.INCONSISTENT
    found = {one.key: one.kind for one in result.sample}
    assert found == {(endpoint_id, lost): DifferenceClass.MISSING, (endpoint_id, forged): DifferenceClass.EXTRA}
    ledger.record(world.settings.control_dsn, [result], run="one")
    with repairing_tools(world.settings, SILENT) as tools:
        report = repair_breaks(tools, pods=("pod1",))
    assert [str(action.kind) for action in report.actions] == ["redeliver_webhooks"]
    assert ledger.breaks(world.settings.control_dsn, states=[BreakState.OPEN, BreakState.ESCALATED]) == []
    assert world.counts(endpoint_id) == {"waiting": 1, "acknowledged": number - 1, "withdrawn": 1}
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    assert [one.message_id for one in world.receiver.taken[number:]] == [lost]
    assert world.compare().verdict is Verdict.CONSISTENT


def test_few_notes_are_all_compared_with_what_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No witness sees who writes them; a part of them each time would find a loss after hours."""
    world.register()
    world.shops[0].refunded()
    world.propagate()
    cut = world.compare().cut or 0
    world.query("delete from webhooks.deliveries where event_type = 'refund.completed' and pod = 'pod1'")
    nothing = SweepPlan(since_cut=cut, parts=(), cut_parts=(), share=0.0)
    real = build_reconcile_context(world.settings, lag_seconds_max=10)
    context = replace(carrying(real, world.settings, COPIES), whole_orders_max=0)

    def compared(plan: SweepPlan) -> PairResult:
        (result,) = run_pairs(context, [PAIR], ["pod1"], plans={"pod1": plan})
        return result

    assert [one.kind for one in compared(nothing).sample] == [DifferenceClass.MISSING]
    assert compared(replace(nothing, has_changes=False)).sample == (), "what a witness named is compared alone"
    for name in ("WHOLE_NOTES_MAX", "WHOLE_EVENTS_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(webhooks, name, 1)
            assert compared(nothing).sample == ()


def test_every_damage_of_the_notes_is_found_and_mended(world: World) -> None:
    (damages,) = [one for one in ROUNDS if one.name == "webhooks"]
    for _ in damages.cells:
        world.shops[0].order()
    world.propagate()
    with repairing_tools(world.settings, SILENT) as tools:
        outcomes = run_round(InProcess(tools), world.settings, damages)
    assert len(outcomes) == len(damages.cells) > 0 and [one for one in outcomes if not one.is_expected] == []
    assert world.compare().verdict is Verdict.CONSISTENT and not world.receiver.tried


def test_one_bad_endpoint_parks_alone_keeps_its_order_and_goes_on_when_told(world: World) -> None:
    good = world.register("/good").endpoint.endpoint_id
    bad = {path: world.register(path).endpoint.endpoint_id for path in ("/down", "/no", "/away", "/noise", "/slow")}
    slow = threading.Event()
    world.receiver.answers |= {"/down": 500, "/no": 400, "/away": 302, "/noise": 0}
    world.receiver.answers["/slow"] = lambda _: 204 if slow.wait(3) else 503
    world.shops[0].refunded()
    world.propagate()
    with world.sending(give_up=timedelta(seconds=1)):
        world.receiver.wait(lambda: not world.counts(good).get("waiting"))

        def parked() -> set[str]:
            return {
                row[0] for row in world.query("select endpoint_id from webhooks.standings where parked_at is not null")
            }

        world.receiver.wait(lambda: parked() == set(bad.values()), 40)
    assert not world.receiver.of("/elsewhere") and len(world.receiver.of("/good")) == world.counts(good)["acknowledged"]
    states = {one.endpoint_id: one for one in standings_of(world.settings)}
    assert states[good].state == "on" and {states[one].state for one in bad.values()} == {"parked"}
    assert "302, and redirects are not followed" in states[bad["/away"]].parked_because
    assert "127.0.0.1" not in "".join(one.parked_because + one.failed_because for one in states.values())

    # Parked ones are owed what they were owed: nothing of it is lost, and that is proven.
    assert world.compare().verdict is Verdict.CONSISTENT
    world.receiver.answers.clear()
    slow.set()
    merchant = world.shops[0].merchant_id
    for number, endpoint_id in enumerate(bad.values()):
        world.endpoints.resume(merchant, endpoint_id, idempotency_key=f"resume{number}")
    with world.sending():
        world.receiver.wait(lambda: not any(world.counts(one).get("waiting") for one in bad.values()))
    wanted = {(event["id"], event["subject"]["version"]) for event in world.receiver.of("/good")}
    for path in bad:
        told = world.receiver.of(path)
        assert {(event["id"], event["subject"]["version"]) for event in told} == wanted, path
        orders = [event["subject"]["version"] for event in told if event["subject"]["type"] == "order"]
        assert orders == sorted(orders), path


def test_a_gone_endpoint_is_parked_at_once(world: World) -> None:
    endpoint_id = world.register("/gone").endpoint.endpoint_id
    world.receiver.answers["/gone"] = 410
    world.shops[0].order()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: standings_of(world.settings, endpoint_id=endpoint_id)[0].state == "parked")
    assert len(world.receiver.tried) <= 4 and world.counts(endpoint_id) == {"waiting": 1}


def test_what_was_taken_and_not_noted_is_sent_again_with_the_same_id(world: World) -> None:
    endpoint_id = world.register().endpoint.endpoint_id
    world.shops[0].refunded()
    world.propagate()
    # Between the endpoint's answer and the note of it, the sender's connection is ended, as if it were killed.
    killed = threading.Event()

    def kill(_: Received) -> int:
        if not killed.is_set():
            killed.set()
            world.query(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted "
                "and objsubid = 2 and classid = hashtext('webhooks.sender')::oid"
            )
        return 204

    world.receiver.answers["/hook"] = kill
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"), 30)
    ids = [one.message_id for one in world.receiver.taken]
    assert killed.is_set() and len(ids) > len(set(ids)) == world.counts(endpoint_id)["acknowledged"]
    assert world.compare().verdict is Verdict.CONSISTENT


def test_a_disabled_endpoint_is_told_nothing_until_it_asks_for_a_replay(world: World) -> None:
    endpoint_id = world.register().endpoint.endpoint_id
    merchant = world.shops[0].merchant_id
    world.shops[0].order()
    world.propagate()
    world.endpoints.change(merchant, endpoint_id, Wanted(is_enabled=False), idempotency_key="off")
    world.shops[0].order()
    world.propagate()
    world.endpoints.change(merchant, endpoint_id, Wanted(is_enabled=True), idempotency_key="on")
    world.shops[0].order()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: len(world.receiver.taken) == 2)
    assert world.compare().verdict is Verdict.CONSISTENT
    (standing,) = standings_of(world.settings, endpoint_id=endpoint_id)
    ((first, last),) = next(one.not_told for one in standing.pods if one.pod == "pod1")
    planned = replay_now(world.settings, endpoint_id, pod="pod1", from_cut=first)
    assert (planned.events, planned.cuts["pod1"][0]) == ({"order.placed": 2}, first) and first <= last
    assert world.counts(endpoint_id) == {"acknowledged": 2}
    replay_now(world.settings, endpoint_id, pod="pod1", from_cut=first, is_preview=False)
    with world.sending():
        world.receiver.wait(lambda: len(world.receiver.taken) == 4)
    assert len({one.message_id for one in world.receiver.taken}) == 3
    assert world.compare().verdict is Verdict.CONSISTENT
    full = replace(world.settings, webhook_waiting_max=1)
    with pytest.raises(ConflictError, match="at most 1 may wait"):
        replay_now(full, endpoint_id, pod="pod1", from_cut=1, is_preview=False)


def test_what_waits_for_an_endpoint_is_bounded_and_what_it_misses_is_said(world: World) -> None:
    endpoint_id = world.register("/down").endpoint.endpoint_id
    world.receiver.answers["/down"] = 500
    for _ in range(3):
        world.shops[0].order()
    world.propagate()
    with world.sending(waiting_max=3):
        world.receiver.wait(lambda: standings_of(world.settings, endpoint_id=endpoint_id)[0].state == "full")
    world.shops[0].order()
    world.propagate()
    assert world.counts(endpoint_id) == {"waiting": 3} and world.compare().verdict is Verdict.CONSISTENT
    world.receiver.answers.clear()
    world.query("update webhooks.deliveries set next_attempt_at = null")
    with world.sending(waiting_max=3):
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    with world.sending(waiting_max=3):
        world.receiver.wait(lambda: standings_of(world.settings, endpoint_id=endpoint_id)[0].state == "on")
    world.shops[0].order()
    world.propagate()
    (standing,) = standings_of(world.settings, endpoint_id=endpoint_id)
    assert len(next(one.not_told for one in standing.pods if one.pod == "pod1")) == 1
    assert world.counts(endpoint_id) == {"waiting": 1, "acknowledged": 3}


def test_a_log_that_lost_cuts_delays_messages_and_loses_none(world: World) -> None:
    endpoint_id = world.register().endpoint.endpoint_id
    world.shops[0].order()
    world.propagate()
    world.shops[0].order()
    for pod in world.settings.pods:
        propagate(world.settings, pod, ("lake",))
    # The notes are set back to before all cuts that the log has.
    world.query("update webhooks.positions set epoch = 'of another database'")
    world.propagate()
    assert world.counts(endpoint_id) == {"waiting": 1}
    result = world.compare()
    assert {one.kind for one in result.sample} == {DifferenceClass.MISSING} and result.missing == 1
    ledger.record(world.settings.control_dsn, [result], run="one")
    with repairing_tools(world.settings, SILENT) as tools:
        assert repair_breaks(tools, pods=("pod1",)).is_clean
    assert world.counts(endpoint_id) == {"waiting": 2} and world.compare().verdict is Verdict.CONSISTENT

    # Without positions nobody knows what was noted: whoever asks is not told that everything was.
    world.query("delete from webhooks.positions")
    with closing(observed_projection("webhooks", world.settings)) as observed:
        assert observed.state("pod1").positions == {} and world.query("select from webhooks.positions") == []


def test_old_notes_go_only_once_they_are_proven(world: World) -> None:
    endpoint_id = world.register().endpoint.endpoint_id
    world.shops[0].order()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    world.query("update webhooks.deliveries set acknowledged_at = acknowledged_at - interval '40 days'")
    how = sending_of(world.settings, "pod1")
    assert how.proven_cut() == 0
    with world.sending():
        time.sleep(0.5)
    assert world.counts(endpoint_id) == {"acknowledged": 1}
    result = world.compare()
    save_results(world.settings.control_dsn, [result])
    assert how.proven_cut() == result.cut
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id))
    assert world.compare().verdict is Verdict.CONSISTENT
    world.shops[0].order()
    world.propagate()
    assert world.counts(endpoint_id) == {"waiting": 1} and world.compare().verdict is Verdict.CONSISTENT


def test_the_receiver_of_the_documentation_takes_each_message_once_and_no_forged_one(world: World) -> None:
    page = (ROOT / "docs" / "how-to" / "webhooks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    done, merchant = world.register(), world.shops[0].merchant_id
    endpoint_id, first = done.endpoint.endpoint_id, done.secret or ""
    second = world.endpoints.rotate(merchant, endpoint_id, timedelta(hours=1), idempotency_key="rotate").secret or ""
    world.shops[0].order()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: len(world.receiver.taken) == 1)
    (message,) = world.receiver.taken
    seen: set[str] = set()
    receive = names["receive"]
    assert receive(message.headers, message.body, first, set())["type"] == "order.placed"
    assert receive(message.headers, message.body, second, seen)["id"] == message.message_id
    assert receive(message.headers, message.body, second, seen) is None
    with pytest.raises(ValueError, match="not signed"):
        receive(message.headers, message.body + b" ", second, set())
    with pytest.raises(ValueError, match="too old"):
        receive({**message.headers, "webhook-timestamp": "1"}, message.body, second, set())


def test_an_operator_sees_lets_go_on_and_replays(world: World, run: Run) -> None:
    endpoint_id = world.register("/gone").endpoint.endpoint_id
    world.receiver.answers["/gone"] = 410
    world.shops[0].order()
    world.propagate()
    with world.sending():
        world.receiver.wait(lambda: standings_of(world.settings, endpoint_id=endpoint_id)[0].state == "parked")
    assert endpoint_id in stopped_endpoints(world.settings.control_dsn)
    (listed,) = run("webhooks", "list", on=world.settings, code=1)["endpoints"]
    assert (listed["state"], sum(pod["waiting"] for pod in listed["pods"])) == ("parked", 1)
    shown = run("webhooks", "list", on=world.settings, as_json=False, code=1)
    assert "it answered 410" in shown and "127.0.0.1" not in shown
    assert run("webhooks", "resume", endpoint_id, on=world.settings)["waiting"] == 1
    world.receiver.answers.clear()
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    assert stopped_endpoints(world.settings.control_dsn) == ""
    start = ("--since", "2020-01-01")
    preview = run("webhooks", "replay", endpoint_id, *start, "--dry-run", on=world.settings, code=0)
    assert (preview["total"], preview["dry_run"]) == (1, True)
    assert world.counts(endpoint_id) == {"acknowledged": 1}
    assert run("webhooks", "replay", endpoint_id, *start, "--yes", on=world.settings, code=0)["total"] == 1
    assert world.counts(endpoint_id) == {"waiting": 1}
    watch = WebhookWatch(settings=world.settings)
    watch.look_once()
    assert watch.troubles == ()


def test_a_message_that_can_never_be_taken_is_skipped_by_a_person_and_stays_known(world: World, run: Run) -> None:
    endpoint_id = world.register("/picky").endpoint.endpoint_id
    world.receiver.answers["/picky"] = lambda message: 422 if message.event["type"] == "order.placed" else 204
    world.shops[0].refunded()
    world.propagate()
    with world.sending(give_up=timedelta(seconds=1)):
        world.receiver.wait(lambda: standings_of(world.settings, endpoint_id=endpoint_id)[0].state == "parked")
    ((poison,),) = world.query("select event_id from webhooks.deliveries where event_type = 'order.placed'")
    how = ("webhooks", "skip", endpoint_id, poison, "--reason", "it wants no orders in GBP")
    preview = run(*how, "--dry-run", on=world.settings, code=0)
    assert (preview["event_type"], preview["last_status"], preview["state"]) == ("order.placed", 422, "waiting")
    assert world.counts(endpoint_id).get("skipped") is None
    done = run(*how, "--yes", "--by", "Ada", on=world.settings, code=0)
    assert (done["state"], done["skipped_by"]) == ("skipped", "Ada")
    # Once more changes nothing: who decided first, decided.
    assert run(*how, "--yes", "--by", "Bob", on=world.settings, code=0)["skipped_by"] == "Ada"
    run("webhooks", "resume", endpoint_id, on=world.settings)
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    assert "order.placed" not in types_of(world.receiver.of("/picky"))
    result = world.compare()
    assert (result.verdict, result.differences) == (Verdict.CONSISTENT, 0)
    save_results(world.settings.control_dsn, [result])
    shown = run("webhooks", "list", on=world.settings, as_json=False, code=0)
    assert f"{result.cut} except 1 skipped" in shown and "Ada skipped" in shown and "no orders in GBP" in shown
    ((state, reason),) = world.query(
        "select state, skipped_because from webhooks.deliveries where event_id = %s", poison
    )
    assert (state, reason) == ("skipped", "it wants no orders in GBP")

    # What is told or was never refused is not skipped; a repair leaves the skipped one, a replay tells it.
    (told,) = world.query("select event_id from webhooks.deliveries where state = 'acknowledged' limit 1")[0]
    with pytest.raises(ConflictError, match="is acknowledged"):
        skip_now(world.settings, endpoint_id, told, by="Ada", reason="why not", is_preview=False)
    world.query("update webhooks.deliveries set cut = cut + 1 where event_id = %s", poison)
    result = world.compare()
    ledger.record(world.settings.control_dsn, [result], run="one")
    with repairing_tools(world.settings, SILENT) as tools:
        assert repair_breaks(tools, pods=("pod1",)).is_clean
    assert world.counts(endpoint_id)["skipped"] == 1 and world.compare().verdict is Verdict.CONSISTENT
    a_lost_note_of_a_skipped_message_is_skipped_again(world, endpoint_id, poison)
    replay_now(world.settings, endpoint_id, pod="pod1", from_cut=1, is_preview=False)
    assert world.counts(endpoint_id).keys() == {"waiting"}


def a_lost_note_of_a_skipped_message_is_skipped_again(world: World, endpoint_id: str, poison: str) -> None:
    """By a repair, and by whoever follows the log from an earlier place; it is told to nobody meanwhile."""
    kept = "select state, skipped_by, skipped_because, body from webhooks.deliveries where event_id = %s"
    before = world.query(kept, poison)
    messages = len(world.receiver.tried)
    world.query("delete from webhooks.deliveries where event_id = %s", poison)
    (standing,) = standings_of(world.settings, endpoint_id=endpoint_id)
    (pod,) = [one for one in standing.pods if one.pod == "pod1"]
    assert (pod.skipped, pod.skipped_messages[0].skipped_by) == (1, "Ada")
    result = world.compare()
    assert [one.kind for one in result.sample] == [DifferenceClass.MISSING]
    ledger.record(world.settings.control_dsn, [result], run="lost")
    with repairing_tools(world.settings, SILENT) as tools:
        assert repair_breaks(tools, pods=("pod1",)).is_clean
    assert world.query(kept, poison) == before
    # What says that it waits, although a person has skipped it, is a break as well.
    world.query(
        "update webhooks.deliveries set state = 'waiting', body = '{}', next_attempt_at = now() + interval '1 day' "
        "where event_id = %s",
        poison,
    )
    result = world.compare()
    assert [one.kind for one in result.sample] == [DifferenceClass.DIFFERENT]
    ledger.record(world.settings.control_dsn, [result], run="waiting")
    with repairing_tools(world.settings, SILENT) as tools:
        assert repair_breaks(tools, pods=("pod1",)).is_clean
    assert world.query(kept, poison) == before
    # The consumer reads the log from its beginning once more, without any note.
    world.query("delete from webhooks.deliveries")
    world.query("update webhooks.positions set cut = 0, chunk = 0, epoch = ''")
    world.propagate()
    assert world.query(kept, poison) == before
    with world.sending():
        world.receiver.wait(lambda: not world.counts(endpoint_id).get("waiting"))
    assert poison not in {one.message_id for one in world.receiver.tried[messages:]}
    assert world.compare().verdict is Verdict.CONSISTENT


def test_a_drain_without_workers_notes_what_is_committed_after_an_endpoint_was_registered(world: World) -> None:
    world.query("delete from webhooks.positions")
    endpoint_id = world.register().endpoint.endpoint_id
    world.shops[0].order()
    drained = {one.pod: one for one in drain_everything(world.settings)}
    assert drained["pod1"].applied["webhooks"] > 0 and world.counts(endpoint_id) == {"waiting": 1}
