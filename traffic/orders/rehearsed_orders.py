"""The state of a file's order during its rehearsal, and the commands so far.

Belongs here: the state, and queries on it. Does not belong here: the events (`life.py`, `refunding.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from contracts.errors import InputError
from contracts.events.order import LineKind, OrderLine, OrderState
from contracts.events.payment import PaymentState
from contracts.text import counted
from oltp.commands.checking import check_fields
from oltp.commands.execute import Command
from oltp.domain.orders import open_quantity
from oltp.domain.refunds import NOTHING_REFUNDED, LineRefunds
from traffic.orders.amounts import minor_of
from traffic.orders.amounts import shown as shown_with_currency
from traffic.orders.format import OrderRecord, Payment, RefundedUnits, Units
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import PLACE, UNALLOCATED_SKU, Step, bound
from traffic.orders.placing import Placed

_SOME_IDS: defaultdict[str, str] = defaultdict(lambda: "00000000-0000-7000-8000-000000000000")
"""Placeholder ids of order lines, for the check of a command's limits."""


class Standing:
    """An order during its rehearsal; its line ids are the line numbers."""

    def __init__(self, placed: Placed, record: OrderRecord) -> None:
        self.placed = placed
        self.record = record
        self.order: OrderState = placed.order
        self.payments: dict[str, PaymentState] = {}
        """Payments by the file's reference."""
        self.refunds: dict[str, LineRefunds] = {}
        self.refunded_minor = 0
        self.unpaid_for: dict[str, int] = {}
        """Units by line id that were cancelled after their money was captured, and are not refunded yet."""
        self.steps: list[Step] = []
        self.do(PLACE, placed.command, record.placed_at)

    @property
    def captured_minor(self) -> int:
        """Return the captured sum over all payments, in minor units."""
        return sum(payment.captured_minor for payment in self.payments.values())

    def units(self, units: Sequence[Units]) -> dict[str, int] | None:
        """Return units by order line id; None: all open units."""
        chosen: dict[str, int] = {}
        for one in units:
            line_id = self.line_id(one)
            chosen[line_id] = chosen.get(line_id, 0) + one.quantity
        return chosen or None

    def line_id(self, units: Units | RefundedUnits) -> str:
        """Return the id of the order line that is named by its place in the file or by its SKU."""
        lines = self.record.lines
        if units.sku == UNALLOCATED_SKU and self.unallocated_id:
            return self.unallocated_id
        places = [place for place, line in enumerate(lines) if line.sku == units.sku and units.sku]
        if units.line is not None:
            places = [units.line - 1] if units.line <= len(lines) else []
        if len(places) != 1:
            named = f"line {units.line}" if units.line is not None else f"SKU {units.sku or 'not named'}"
            raise RejectedError(
                "line_not_known",
                f"{named}: {counted(len(places), 'line of the order is', 'lines of the order are')} called so",
            )
        return str(self.placed.numbers[places[0]])

    @property
    def unallocated_id(self) -> str:
        """Return the id of the line of unallocated cash; empty when the order has none."""
        return self.placed.extras.get(UNALLOCATED_SKU, "")

    def open_units(self, *, with_shipping: bool = False) -> dict[str, int]:
        """Return the open units by line id, without the line of unallocated cash."""
        return {
            line.order_line_id: open_quantity(line)
            for line in self.order.lines
            if open_quantity(line)
            and line.order_line_id != self.unallocated_id
            and (with_shipping or line.kind is not LineKind.SHIPPING)
        }

    def left(self, line: OrderLine) -> tuple[int, int]:
        """Return (units, minor units) of a line that are neither cancelled nor refunded."""
        given = self.refunds.get(line.order_line_id, NOTHING_REFUNDED)
        units = line.quantity - line.cancelled_quantity - given.quantity
        return units, line.total_minor - line.cancelled_minor - given.amount_minor

    def do(self, name: str, command: Command[Any], at: datetime, payment: Payment | None = None) -> None:
        """Add a step; RejectedError when the command breaks a limit."""
        method, is_declined = (payment.method, payment.is_declined) if payment else ("", False)
        step = Step(name=name, command=command, at=at, method=method, is_declined=is_declined)
        try:
            check_fields(bound(step, _SOME_IDS))
        except InputError as error:
            raise RejectedError("beyond_a_limit", str(error)) from None
        self.steps.append(step)

    def minor(self, amount: Decimal | None, what: str) -> int:
        """Return an amount of the file in minor units."""
        return minor_of(amount or Decimal(0), self.record.currency, what)

    def shown(self, amount_minor: int) -> str:
        """Return an amount with its currency."""
        return shown_with_currency(amount_minor, self.record.currency)
