"""Booking orders: running the steps of many orders against one pod; idempotent.

Belongs here: running steps in shared transactions where possible, and the outcome of each order. Does not belong here:
the steps of an order (`rehearsal.py`), which orders run in which pod (`importing.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from contracts.errors import ConflictError, IdempotencyConflictError, InputError, InsufficientStockError
from contracts.events.adjustment import AdjustmentState
from contracts.events.merchant import MerchantState
from contracts.events.order import LineKind, OrderState
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundState, RefundStatus
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.execute import CommandPod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from traffic.orders.format import OrderRecord
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import LOCATION, Step, bound, key_of, variant_id
from traffic.orders.recorded_gateway import RecordedGateway
from traffic.orders.rehearsal import Plan, counts_of, rehearse
from traffic.orders.report import Figures, Outcome

CHANGED = "order_exists_with_other_content"
REFUSED = "refused_by_the_books"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of one pod that are booked together, and the data that their rehearsal needs."""

    orders: tuple[tuple[int, int, OrderRecord], ...]
    """(file, line, order) of each order."""
    begun: Mapping[tuple[int, int], tuple[str, ...]]
    """By (file, line): names of the steps of the order that were booked before."""
    merchants: Mapping[str, MerchantState]
    allowance: Decimal
    now: datetime


@dataclass(kw_only=True)
class _Booking:
    """The progress of booking one order."""

    file: int
    line: int
    plan: Plan
    before: Collection[str]
    """Names of the steps that were booked before this run."""
    line_ids: Mapping[str, str]
    taken: list[str] = field(default_factory=list)
    """Names of the steps that this run booked."""
    sold_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    refusal: ConflictError | InputError | None = None
    refused_step: str = ""
    is_placed: bool = False

    def take(self, step: Step, answer: Any) -> None:
        """Record the result of a step."""
        self._take(step, answer)
        if self.refusal is None and step.name not in self.before:
            self.taken.append(step.name)

    def _take(self, step: Step, answer: Any) -> None:
        if isinstance(answer, ConflictError | InputError):
            self.refusal, self.refused_step = answer, step.name
        elif isinstance(answer, OrderState) and not self.is_placed:
            self.is_placed = True
            self.sold_minor += answer.total_minor
            self.line_ids = {str(line.line_number): line.order_line_id for line in answer.lines}
        elif isinstance(answer, AdjustmentState):
            self.sold_minor += answer.amount_minor
        elif isinstance(answer, PaymentState):
            self._take_payment(step, answer)
        elif isinstance(answer, RefundState) and step.name.startswith("complete/"):
            if answer.status is not RefundStatus.COMPLETED:
                self.refusal, self.refused_step = ConflictError(f"the refund is {answer.status}"), step.name
            else:
                self.refunded_minor += answer.amount_minor

    def _take_payment(self, step: Step, answer: PaymentState) -> None:
        if step.name.startswith(("capture/", "redeem/")):
            self.captured_minor += answer.captures[-1].amount_minor
        elif answer.status is PaymentStatus.DECLINED and not step.is_declined:
            self.refusal, self.refused_step = ConflictError("the payment is recorded as declined"), step.name

    def outcome(self) -> Outcome:
        """Return the outcome of the order."""
        booked = Figures(sold=self.sold_minor, captured=self.captured_minor, refunded=self.refunded_minor)
        ended = Outcome(
            file=self.file,
            line=self.line,
            booked=booked,
            counts=counts_of(self.taken),
            unallocated_minor=self.plan.unallocated_minor if self.is_placed else 0,
        )
        if self.refusal is None:
            return ended
        reason = CHANGED if isinstance(self.refusal, IdempotencyConflictError) else REFUSED
        where = f"placed, but {self.refused_step} was refused: " if self.is_placed else ""
        return msgspec.structs.replace(
            ended, reason=reason, detail=where + str(self.refusal), is_unfinished=self.is_placed
        )


def book_orders(pod: CommandPod, task: Task) -> list[Outcome]:
    """Book the orders; steps that are already booked stay unchanged. An order whose command is refused is rejected.

    Each step runs for all orders before the next step, so that commands of one type can share a transaction.
    """
    bookings: list[_Booking] = []
    outcomes: list[Outcome] = []
    for file, line, record in task.orders:
        try:
            plan = rehearse(record, task.merchants[record.merchant_id], task.allowance, task.now)
        except RejectedError as error:
            outcomes.append(Outcome(file=file, line=line, reason=error.reason, detail=error.detail))
        else:
            bookings.append(
                _Booking(file=file, line=line, plan=plan, before=task.begun.get((file, line), ()), line_ids={})
            )
    for place in range(max((len(booking.plan.steps) for booking in bookings), default=0)):
        going = [one for one in bookings if one.refusal is None and place < len(one.plan.steps)]
        _take_step(pod, [(one, one.plan.steps[place]) for one in going])
    return [*outcomes, *(booking.outcome() for booking in bookings)]


def _take_step(pod: CommandPod, steps: Sequence[tuple[_Booking, Step]]) -> None:
    ordered = sorted(steps, key=lambda pair: (pair[1].method, pair[1].is_declined, type(pair[1].command).__name__))
    for (method, is_declined), group in groupby(ordered, key=lambda pair: (pair[1].method, pair[1].is_declined)):
        together = list(group)
        provider = replace(pod, gateway=RecordedGateway(method, is_declining=is_declined)) if method else pod
        for (booking, step), answer in zip(together, _run(provider, together), strict=True):
            if isinstance(answer, InsufficientStockError):
                answer = _placed_after_receipt(pod, booking, step)
            booking.take(step, answer)


def _run(pod: CommandPod, steps: Sequence[tuple[_Booking, Step]]) -> list[Any]:
    """Return for each step the command's answer, or the error that refused it."""
    return execute_batch(
        pod,
        [
            BatchItem(
                command=bound(step, booking.line_ids),
                idempotency_key=key_of(booking.plan.record.order_number, step.name),
                occurred_at=step.at,
            )
            for booking, step in steps
        ],
    )


def _placed_after_receipt(pod: CommandPod, booking: _Booking, step: Step) -> Any:
    """Receive the units that other orders took since the opening receipt, and place the order again."""
    record = booking.plan.record
    units: dict[str, int] = {}
    for line in record.lines:
        if line.kind is LineKind.GOODS:
            units[line.sku] = units.get(line.sku, 0) + line.quantity
    command = ReceiveStock(
        merchant_id=record.merchant_id,
        location_id=LOCATION,
        lines=[
            StockInput(variant_id=variant_id(record.merchant_id, sku), quantity=count) for sku, count in units.items()
        ],
        reason=f"for order {record.order_number}",
    )
    key = key_of(record.order_number, "receive")
    try:
        execute(pod, command, idempotency_key=key, occurred_at=record.placed_at)
    except (ConflictError, InputError) as error:
        return error
    (answer,) = _run(pod, [(booking, step)])
    return answer
