"""Commands that come at once share a transaction, and each ends as if it had come alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from contracts.errors import IdempotencyConflictError, InsufficientStockError, NotFoundError, PodFencedError, StackError
from contracts.events.order import OrderState
from contracts.waiting import wait_until
from oltp.commands import gathering
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.execute import Command
from oltp.commands.gathering import ALONE_AFTER_FAILURE, AT_ONCE_MAX, Gathering
from oltp.commands.place_order import PlaceOrder
from oltp.transaction import Notes
from tests.integration.shop import MERCHANT, Shop, place_command


@dataclass(kw_only=True)
class Callers:
    """Callers of one gathering, while a lock holds back the first transactions."""

    shop: Shop
    gathering: Gathering
    loop: asyncio.AbstractEventLoop
    notes: dict[str, Notes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, command: Command[Any], key: str) -> Future[Any]:
        notes = self.notes.setdefault(key, Notes())
        return asyncio.run_coroutine_threadsafe(
            self.gathering.execute(command, idempotency_key=key, notes=notes), self.loop
        )

    def place(self, number: str, *lines: tuple[str, int]) -> Future[OrderState]:
        return self.ask(place_command(lines or [("MUG", 1)], number), f"place {number}")

    @property
    def queue(self) -> Any:
        return self.gathering._queues[PlaceOrder]

    def wait_for(self, waiting: int) -> None:
        wait_until(lambda: len(self.queue._waiting) == waiting, timeout_seconds=20, failure=lambda: "They do not wait.")

    @contextmanager
    def held(self, waiting: int) -> Iterator[list[Future[OrderState]]]:
        """Hold the stock of mugs while the block adds commands that wait, so many; yield those that are under way."""
        with psycopg.connect(self.shop.settings.owner_dsn) as other:
            other.execute("select from oltp.stock_slots where variant_id = %s for update", [self.shop.variants["MUG"]])
            under_way = [self.place(f"first-{next(self.numbers)}") for _ in range(AT_ONCE_MAX)]
            wait_until(
                lambda: self.gathering._queues and self.queue._under_way == AT_ONCE_MAX,
                timeout_seconds=20,
                failure=lambda: "They do not run.",
            )
            yield under_way
            self.wait_for(waiting)

    def transactions(self, *numbers: str) -> int:
        """In how many transactions these orders were placed."""
        ((count,),) = self.shop.query(
            "select count(distinct outbox.xid::text) from oltp.outbox inner join oltp.orders "
            "on aggregate_id = order_id::text where order_number = any(%s)",
            list(numbers),
        )
        return int(count)


@pytest.fixture
def callers(shop: Shop) -> Iterator[Callers]:
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    with ThreadPoolExecutor(8) as threads:
        yield Callers(shop=shop, gathering=Gathering(shop.pod, lambda job: threads.submit(job)), loop=loop)
    loop.call_soon_threadsafe(loop.stop)
    running.join(10)
    loop.close()


def test_those_that_wait_go_together(callers: Callers) -> None:
    numbers = [f"B{number}" for number in range(6)]
    with callers.held(waiting=6) as under_way:
        orders = [callers.place(number, ("MUG", 1), ("PIN", 2)) for number in numbers]
    assert [order.result().order_number for order in orders] == numbers
    assert [order.result().version for order in under_way] == [1] * AT_ONCE_MAX
    assert callers.transactions(*numbers) == 1
    assert callers.transactions(*numbers, "first-0", "first-1") == 1 + AT_ONCE_MAX
    assert callers.shop.stock("MUG") == (100, 6 + AT_ONCE_MAX)
    stored = callers.shop.query(
        "select count(*), count(distinct response::text), count(field_hashes), bool_or(is_kept) "
        "from oltp.idempotency_keys where idempotency_key ~ '^place B'"
    )
    assert stored == [(6, 6, 6, False)]
    ((commands, xids),) = callers.shop.query(
        "select count(distinct correlation_id), array_agg(distinct xid::text::bigint) from oltp.outbox "
        "where aggregate_id = any(%s)",
        [order.result().order_id for order in orders],
    )
    told = [callers.notes[f"place {number}"] for number in numbers]
    assert commands == 6 and {notes.xid for notes in told} == set(xids)
    assert all(notes.lsn and not notes.is_replayed for notes in told)


def test_a_repeated_command_has_the_answer_of_the_first(callers: Callers) -> None:
    with callers.held(waiting=3):
        first, twice = callers.place("B1"), callers.place("B1")
        other = callers.place("B2")
    assert first.result() == twice.result() and other.result().order_number == "B2"
    assert callers.place("B1").result() == first.result() and callers.notes["place B1"].is_replayed
    with pytest.raises(IdempotencyConflictError) as conflict:
        callers.ask(place_command([("MUG", 9)], "B2"), "place B2").result()
    assert list(conflict.value.fields) == ["lines"]
    assert callers.shop.stock("MUG") == (100, 2 + AT_ONCE_MAX)


def test_one_bad_command_stops_only_itself(callers: Callers) -> None:
    with callers.held(waiting=5):
        good = [callers.place(number) for number in ("B1", "B2")]
        unknown, too_many = callers.place("B3", ("NONE", 1)), callers.place("B4", ("MUG", 1_000))
        elsewhere = callers.ask(replace(place_command([("MUG", 1)], "B5"), merchant_id="elsewhere"), "place B5")
    assert [order.result().order_number for order in good] == ["B1", "B2"]
    for refused, error in ((unknown, NotFoundError), (too_many, InsufficientStockError), (elsewhere, PodFencedError)):
        with pytest.raises(error):
            refused.result()
    assert callers.transactions("B1", "B2") == 2
    assert callers.shop.stock("MUG") == (100, 2 + AT_ONCE_MAX)


def test_after_a_failure_they_go_alone_for_a_while(callers: Callers) -> None:
    with callers.held(waiting=2):
        both = [callers.place("B1"), callers.place("B2", ("NONE", 1))]
    assert [order.exception() is None for order in both] == [True, False]
    queue = callers.queue
    assert queue._alone == ALONE_AFTER_FAILURE
    for number in range(ALONE_AFTER_FAILURE):
        callers.place(f"C{number}", ("PEN", 1)).result()
    assert queue._alone == 0
    with callers.held(waiting=2):
        both = [callers.place("D1"), callers.place("D2")]
    assert [order.result().order_number for order in both] == ["D1", "D2"]
    assert callers.transactions("D1", "D2") == 1


def test_what_may_not_share_runs_at_once(callers: Callers) -> None:
    order = callers.shop.place(("PIN", 1))
    with callers.held(waiting=0):
        cancelled = callers.ask(CancelOrder(merchant_id=MERCHANT, order_id=order.order_id), "cancel")
        assert cancelled.result(20).version == 2


def test_who_stops_waiting_is_left_out(callers: Callers) -> None:
    with callers.held(waiting=3):
        gone, *others = [callers.place(f"B{number}") for number in range(3)]
        callers.wait_for(3)
        gone.cancel()
    assert [order.result(20).order_number for order in others] == ["B1", "B2"]
    assert callers.shop.query("select count(*) from oltp.orders where order_number = 'B0'") == [(0,)]


def test_an_error_of_the_transaction_is_everybodys(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> list[Any]:
        raise StackError("The pod is gone.")

    monkeypatch.setattr(gathering, "run_together", fail)
    with callers.held(waiting=3) as under_way:
        lost = [callers.place(f"B{number}") for number in range(3)]
    assert [type(order.exception()) for order in lost] == [StackError] * 3
    assert [order.exception() for order in under_way] == [None] * AT_ONCE_MAX
    monkeypatch.undo()
    assert callers.place("B0").result().order_number == "B0"
