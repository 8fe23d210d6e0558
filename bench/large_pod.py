"""Fills a pod with many orders: the same commits, events and guards as commands, without asking prices and stock.

Belongs here: that filling. Does not belong here: what is measured in such a pod. An order of the generated trade is the
model; its copies have ids, numbers and customers of their own, and neither reservation nor payment, as imported orders
may have.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

import msgspec
import psycopg

from contracts.errors import StackError
from contracts.events.order import OrderEvent, OrderState, OrderStatus
from contracts.ids import uuid7
from contracts.settings import PodSettings
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.execute import Command, build_command_pod
from oltp.outbox import Change
from oltp.store.rows import load, save_all
from oltp.transaction import CommandTransaction
from traffic.workers import process_count

BATCH = 500
PART = 10_000
CUSTOMERS = 20_000
MODELS = """
select merchant_id, order_id::text from oltp.orders
where status = 'placed' and customer_id is not null and cancelled_minor = 0
  and not exists (select from oltp.order_lines as l where l.order_id = orders.order_id and l.fulfilled_quantity > 0)
order by order_id limit 40
"""


class StateOrder(Command[str], frozen=True, kw_only=True):
    """Write an order as it is given, with its event."""

    IS_BATCHABLE: ClassVar[bool] = True

    order: OrderState

    def run(self, tx: CommandTransaction) -> str:
        """Return the order's id."""
        order = msgspec.structs.replace(self.order, placed_at=tx.occurred_at)
        save_all(tx, [Change(before=None, after=order, event_type=OrderEvent.ORDER_PLACED)])
        return self.order.order_id


class ReadOrder(Command[OrderState], frozen=True, kw_only=True):
    """Return an order."""

    order_id: str

    def run(self, tx: CommandTransaction) -> OrderState:
        """Return the order as it stands."""
        return load(tx, OrderState, self.merchant_id, self.order_id)


def fill(pod: PodSettings, orders: int) -> None:
    """Write `orders` orders into a pod in which trade has placed some; StackError when there is none to go by."""
    models = _models(pod)
    parts = [(pod, models, first, min(PART, orders - first)) for first in range(0, orders, PART)]
    with ProcessPoolExecutor(max_workers=process_count(), mp_context=multiprocessing.get_context("spawn")) as workers:
        list(workers.map(_fill_part, parts))


def _models(pod: PodSettings) -> list[OrderState]:
    with psycopg.connect(pod.owner_dsn) as connection:
        found = connection.execute(MODELS).fetchall()
    if not found:
        raise StackError(f"{pod.pod} has no placed order to go by; place some first.")
    with build_command_pod(pod, connections_max=1) as commands:
        read = [
            BatchItem(
                command=ReadOrder(merchant_id=merchant_id, order_id=order_id), idempotency_key=f"large-pod/{uuid7()}"
            )
            for merchant_id, order_id in found
        ]
        models: list[OrderState] = execute_batch(commands, read)
    return models


def _fill_part(part: tuple[PodSettings, list[OrderState], int, int]) -> None:
    pod, models, first, count = part
    with build_command_pod(pod, connections_max=1) as commands:
        for begin in range(first, first + count, BATCH):
            numbers = range(begin, min(begin + BATCH, first + count))
            answers = execute_batch(commands, list(_items(models, numbers)))
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer


def _items(models: list[OrderState], numbers: range) -> Iterator[BatchItem]:
    for number in numbers:
        order = _copy(models[number % len(models)], number)
        yield BatchItem(
            command=StateOrder(merchant_id=order.merchant_id, order=order),
            idempotency_key=f"large-pod/{number}",
        )


def _copy(model: OrderState, number: int) -> OrderState:
    ids = {line.order_line_id: str(uuid7()) for line in model.lines}
    replace = msgspec.structs.replace
    return replace(
        model,
        version=1,
        order_id=str(uuid7()),
        order_number=f"large-{number}",
        customer_id=f"customer-{number % CUSTOMERS}",
        reservation_id=None,
        status=OrderStatus.PLACED,
        lines=[replace(line, order_line_id=ids[line.order_line_id]) for line in model.lines],
        line_taxes=[replace(tax, order_line_id=ids[tax.order_line_id]) for tax in model.line_taxes],
        discounts=[replace(discount, order_discount_id=str(uuid7())) for discount in model.discounts],
    )
