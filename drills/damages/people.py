"""Damages of OLTP that only people decide about: inconsistent data in OLTP, and money without an event.

Belongs here: the required difference class of each, and the person's correction. Does not belong here: making the
damages (`oltp.py`), damages that code repairs (`rounds.py`).
"""

from __future__ import annotations

from contracts.verdicts import DifferenceClass as Class
from drills.damages import forged, oltp
from drills.damages.place import Cell, names

OLTP = "oltp"
OWNER_FAMILIES = ("oltp_identities", "stock_identity", "oltp_lake", "log_manifests")
UNEXPLAINED = "no event explains the change"

PEOPLE_CELLS = (
    Cell(
        damage="refunded more than captured",
        store=OLTP,
        do=oltp.refund_too_much,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__refund=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_refund,
    ),
    Cell(
        damage="captured changed by one minor unit",
        store=OLTP,
        do=oltp.capture_one_less,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__payment=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_capture,
    ),
    Cell(
        damage="one minor unit unallocated without a receipt",
        store=OLTP,
        do=oltp.unallocate_one_more,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__payment=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_unallocated,
    ),
    Cell(
        damage="gift card credited by one minor unit without a refund",
        store=OLTP,
        do=oltp.credit_one_more,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__gift_card=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_card,
    ),
    Cell(
        damage="order's total changed by one minor unit",
        store=OLTP,
        do=oltp.total_one_more,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__order=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_total,
    ),
    Cell(
        damage="two lines wrong, total right",
        store=OLTP,
        do=oltp.change_two_lines,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__order=Class.AMOUNT),
        reason="OLTP itself is at fault",
        undo=oltp.correct_lines,
    ),
    Cell(
        damage="two taxes of a line swapped",
        store=OLTP,
        do=oltp.swap_taxes,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__order=Class.TAX),
        reason="OLTP itself is at fault",
        undo=oltp.correct_taxes,
    ),
    Cell(
        damage="one of a line's taxes lost",
        store=OLTP,
        do=oltp.lose_one_tax,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__order=Class.EXTRA),
        reason="OLTP itself is at fault",
        undo=oltp.restore_tax,
    ),
    Cell(
        damage="payment in another currency than its order",
        store=OLTP,
        do=oltp.change_payment_currency,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__payment=Class.CURRENCY),
        reason="OLTP itself is at fault",
        undo=oltp.correct_payment_currency,
    ),
    Cell(
        damage="order and payment in yen",
        store=OLTP,
        do=oltp.change_both_currencies,
        named=names(oltp_identities=Class.IDENTITY, oltp_lake__order=Class.CURRENCY, oltp_lake__payment=Class.CURRENCY),
        reason="OLTP itself is at fault",
        undo=oltp.correct_both_currencies,
    ),
    Cell(
        damage="stock miscounted",
        store=OLTP,
        do=oltp.miscount_stock,
        named=names(stock_identity=Class.DIFFERENT),
        reason="OLTP itself is at fault",
        undo=oltp.count_stock,
    ),
    Cell(
        damage="row deleted past the outbox",
        store=OLTP,
        do=oltp.delete_adjustment,
        named=names(oltp_lake__adjustment=Class.EXTRA),
        reason="OLTP has no row of",
        undo=oltp.restore_adjustment,
    ),
    Cell(
        damage="event altered in the outbox",
        store=OLTP,
        do=oltp.change_event,
        named=names(log_manifests=Class.DIFFERENT),
        reason="The outbox says otherwise of event",
        undo=oltp.restore_event,
    ),
)

TAMPERED_CELLS = (
    Cell(
        damage="price doubled, with all that must agree",
        store=OLTP,
        do=forged.raise_price,
        named=names(oltp_lake__order=Class.AMOUNT),
        reason=UNEXPLAINED,
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="account of a bank transfer changed past the outbox",
        store=OLTP,
        do=oltp.change_account,
        named=names(oltp_lake__payment=Class.DIFFERENT),
        reason=UNEXPLAINED,
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="row inserted past the outbox",
        store=OLTP,
        do=oltp.insert_adjustment,
        named=names(oltp_lake__adjustment=Class.MISSING),
        reason="no command wrote it",
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="payment that nobody authorized",
        store=OLTP,
        do=forged.insert_payment,
        named=names(oltp_lake__payment=Class.MISSING),
        reason="no command wrote it",
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="gift card that nobody issued",
        store=OLTP,
        do=forged.insert_gift_card,
        named=names(oltp_lake__gift_card=Class.MISSING),
        reason="no command wrote it",
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="order that nobody placed",
        store=OLTP,
        do=forged.insert_order,
        named=names(oltp_lake__order=Class.MISSING),
        reason="no command wrote it",
        undo=forged.correct_by_command,
    ),
    Cell(
        damage="payment deleted",
        store=OLTP,
        do=forged.delete_payment,
        named=names(oltp_lake__payment=Class.EXTRA),
        reason="OLTP has no row of",
        undo=forged.correct_by_command,
    ),
)
