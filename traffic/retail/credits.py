"""Booking a credit note: refunds on the orders of its returns, and adjustments for everything else.

Belongs here: the plan of one credit note (pure), and running it against one pod. Does not belong here: the search
for the orders (`matching.py`).

The amount of a refund is computed from the order's line by the domain's rule. If the credit note differs (another
price, a rounded penny), the difference is booked as one manual adjustment, so that the books hold the note's exact sum.
An interrupted note is continued: its booked parts are subtracted before the rest is planned. A note that was booked
with other content is rejected, and nothing more of it is booked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.adjustment import AdjustmentKind, AdjustmentState
from contracts.events.order import LineKind
from contracts.events.refund import RefundState, RefundStatus
from contracts.money import micro_per_minor
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Answer, Command, CommandPod, execute
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from traffic.retail.books import Given
from traffic.retail.catalog import tax_category
from traffic.retail.invoice_commands import Step, adjustment, invoice_id, key_of, row_steps
from traffic.retail.invoices import Invoice, InvoiceRow, rejected
from traffic.retail.matching import Match, ReturnMatcher, RowMatch, SoldKey
from traffic.retail.report import Outcome, already, combined, refused
from traffic.retail.rules import Treatment, product_code
from traffic.retail.sales import CHANGED, REFUSED, adjusted_micro, book_row, refusal_reason


class CreditPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a credit note that are not booked yet."""

    invoice: Invoice
    refunds: tuple[RequestRefund, ...]
    unreferenced: tuple[tuple[InvoiceRow, int], ...]
    """(row, units) of returns without a known order."""
    steps: tuple[Step, ...]
    """Steps of rows that are no returns."""
    requested: tuple[str, ...]
    """Ids of refunds that an interrupted run has requested and that must be completed."""
    booked_micro: int
    """The already booked amount of the note in micro-units, signed."""
    is_changed: bool = False
    """Whether the note was booked before with other content."""

    @property
    def is_done(self) -> bool:
        """Return whether nothing is left to book."""
        has_work = self.refunds or self.unreferenced or self.steps or self.requested
        return not (self.is_changed or has_work) and self.booked_micro == self.invoice.amount_micro


def sold_key(invoice: Invoice, item: InvoiceRow) -> SoldKey | None:
    """Return the key by which the row's order is searched; None for a guest."""
    if invoice.customer_id is None:
        return None
    return SoldKey(invoice.key.merchant_id, invoice.customer_id, product_code(item.row.stock_code))


def plan_credit(invoice: Invoice, matcher: ReturnMatcher, given: Given, stored: Collection[int]) -> CreditPlan:
    """Return what is left to book; `given` and `stored` (ordinals of rows) are already booked."""
    found: list[RowMatch] = []
    for item in invoice.treated(Treatment.RETURN):
        quantity = _uncovered(item, given)
        if quantity:
            found.append(matcher.match(sold_key(invoice, item), item, quantity))
    return CreditPlan(
        invoice=invoice,
        refunds=tuple(_refunds(invoice, found, len(given.refund_ids))),
        unreferenced=tuple((match.item, match.unmatched_quantity) for match in found if match.unmatched_quantity),
        steps=tuple(step for step in row_steps(invoice) if step.ordinal not in stored),
        requested=tuple(given.requested),
        booked_micro=given.amount_micro,
        is_changed=_is_of_another(invoice, given),
    )


def book_credit(pod: CommandPod, plan: CreditPlan) -> Outcome:
    """Book the plan, then the difference between the note's sum and the booked sum."""
    if plan.is_done:
        return already(plan.invoice.rows)
    if plan.is_changed:
        return refused(plan.invoice.rows, CHANGED)
    booked: list[Outcome] = []
    try:
        for outcome in _parts(pod, plan):
            booked.append(outcome)
        booked.append(_difference(pod, plan.invoice, _open_micro(plan, combined(booked))))
    except (ConflictError, InputError) as error:
        return _booked_in_part(plan, combined(booked), refusal_reason(error), str(error))
    return _booked(plan, combined(booked))


def _parts(pod: CommandPod, plan: CreditPlan) -> Iterator[Outcome]:
    """Book one part after the other. A refusal ends the sequence, so that the part numbers of refunds have no gaps."""
    invoice = plan.invoice
    rows = {item.ordinal: item for item in invoice.rows}
    yield from (book_row(pod, invoice, rows[step.ordinal], step) for step in plan.steps if step.ordinal is not None)
    yield from (_complete(pod, invoice, refund_id) for refund_id in plan.requested)
    yield from (_refund(pod, invoice, refund) for refund in plan.refunds)
    yield from (_unreferenced(pod, invoice, item, quantity) for item, quantity in plan.unreferenced)


def _booked(plan: CreditPlan, booked: Outcome) -> Outcome:
    returns, unmatched = len(plan.invoice.treated(Treatment.RETURN)), len(plan.unreferenced)
    return msgspec.structs.replace(
        booked,
        rows_imported=len(plan.invoice.rows) - len(booked.rejections),
        amount_micro=booked.amount_micro + plan.booked_micro,
        returns_matched=returns - unmatched,
        returns_unmatched=unmatched,
    )


def _booked_in_part(plan: CreditPlan, booked: Outcome, reason: str, detail: str) -> Outcome:
    """Return the outcome of a note with unbooked returns: its return rows are rejected with the missing amount."""
    returns = plan.invoice.treated(Treatment.RETURN)
    open_micro = _open_micro(plan, booked)
    rejections = [rejected(item.row, reason, detail) for item in returns]
    surplus_micro = open_micro - sum(rejection.amount_micro for rejection in rejections)
    if rejections:
        last = rejections[-1]
        rejections[-1] = msgspec.structs.replace(last, amount_micro=last.amount_micro + surplus_micro)
    return msgspec.structs.replace(
        booked,
        rows_imported=len(plan.invoice.rows) - len(booked.rejections) - len(rejections),
        amount_micro=booked.amount_micro + plan.booked_micro,
        unfinished=int(reason == REFUSED),
        rejections=(*booked.rejections, *rejections),
    )


def _open_micro(plan: CreditPlan, booked: Outcome) -> int:
    """Return the amount of the note that is neither booked nor rejected, in micro-units."""
    rejected_micro = sum(rejection.amount_micro for rejection in booked.rejections)
    return plan.invoice.amount_micro - rejected_micro - booked.amount_micro - plan.booked_micro


def _is_of_another(invoice: Invoice, given: Given) -> bool:
    """Return whether booked parts do not belong to this note; `given` holds what planning has not used."""
    own = {_refund_id(invoice, part) for part in range(1, len(given.refund_ids) + 1)}
    is_left = any(given.units.values()) or any(given.charges_micro.values())
    return is_left or not own.issuperset(given.refund_ids)


def _refund_id(invoice: Invoice, part: int) -> str:
    """Return the id of one of the note's refunds, computed from the content, so that a changed note is detected."""
    return invoice_id(invoice, "refund", invoice.digest, str(part))


def _uncovered(item: InvoiceRow, given: Given) -> int:
    """Return the row's units that are not booked yet, and subtract its booked units from `given`."""
    code, quantity = product_code(item.row.stock_code), -item.row.quantity
    if item.rule.line_kind is LineKind.SHIPPING and given.charges_micro.get(code, 0) >= -item.row.amount_micro:
        given.charges_micro[code] += item.row.amount_micro
        return 0
    # Carriage without a matching order was booked as units, like other returns.
    covered = min(quantity, given.units.get(code, 0))
    if covered:
        given.units[code] -= covered
    return quantity - covered


def _refunds(invoice: Invoice, found: list[RowMatch], parts_before: int) -> list[RequestRefund]:
    """Return one refund per payment, with the units per order line."""
    by_payment: dict[str, dict[str, Match]] = {}
    for match in (match for row in found for match in row.matches):
        lines = by_payment.setdefault(match.payment_id, {})
        before = lines.get(match.order_line_id)
        quantity = match.quantity + (before.quantity if before else 0)
        lines[match.order_line_id] = msgspec.structs.replace(match, quantity=quantity)
    return [
        RequestRefund(
            merchant_id=invoice.key.merchant_id,
            payment_id=payment_id,
            lines=[
                RefundLineInput(
                    order_line_id=match.order_line_id, quantity=match.quantity, is_restocked=match.is_restocked
                )
                for match in lines.values()
            ],
            reason="credit note",
            external_reference=invoice.key.number,
            refund_id=_refund_id(invoice, part),
        )
        for part, (payment_id, lines) in enumerate(by_payment.items(), start=parts_before + 1)
    ]


def _refund(pod: CommandPod, invoice: Invoice, command: RequestRefund) -> Outcome:
    refund = _run(pod, invoice, f"refund/{command.refund_id}/request", command)
    return msgspec.structs.replace(_complete(pod, invoice, refund.refund_id), refunds=1)


def _complete(pod: CommandPod, invoice: Invoice, refund_id: str) -> Outcome:
    command = CompleteRefund(merchant_id=invoice.key.merchant_id, refund_id=refund_id)
    refund: RefundState = _run(pod, invoice, f"refund/{refund_id}/complete", command)
    if refund.status is not RefundStatus.COMPLETED:
        raise ConflictError(f"Credit note {invoice.key.number}: the provider refused refund {refund_id}; import again.")
    return Outcome(amount_micro=-refund.amount_minor * micro_per_minor(refund.currency))


def _unreferenced(pod: CommandPod, invoice: Invoice, item: InvoiceRow, quantity: int) -> Outcome:
    row = item.row
    command = adjustment(
        invoice,
        kind=AdjustmentKind.UNREFERENCED_RETURN,
        amount_micro=-quantity * row.unit_price_micro,
        quantity=-quantity,
        sku=row.stock_code,
        reason=row.description or row.stock_code,
        tax_category=tax_category(invoice.key.merchant_id),
    )
    state: AdjustmentState = _run(pod, invoice, f"unreferenced/{item.ordinal}", command)
    return Outcome(adjustments=1, amount_micro=adjusted_micro(state))


def _difference(pod: CommandPod, invoice: Invoice, amount_micro: int) -> Outcome:
    if amount_micro == 0:
        return Outcome()
    command = adjustment(
        invoice,
        kind=AdjustmentKind.MANUAL,
        amount_micro=amount_micro,
        quantity=0,
        sku=None,
        reason="credit note at other prices than the order",
        tax_category=tax_category(invoice.key.merchant_id),
    )
    state: AdjustmentState = _run(pod, invoice, "difference", command)
    return Outcome(adjustments=1, amount_micro=adjusted_micro(state))


def _run(pod: CommandPod, invoice: Invoice, step: str, command: Command[Answer]) -> Answer:
    key = key_of(invoice.key.number, step)
    return execute(pod, command, idempotency_key=key, occurred_at=invoice.invoiced_at)
