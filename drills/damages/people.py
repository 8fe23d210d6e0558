"""Damages of OLTP that only people decide about: inconsistent data in OLTP, and money without an event.

Belongs here: the required difference class of each, and the person's correction. Does not belong here: making the
damages (`oltp.py`), damages that code repairs (`rounds.py`).
"""

from __future__ import annotations

from contracts.verdicts import DifferenceClass as Class
from drills.damages import forged, oltp
from drills.damages.place import Cell, Damage, Undo, names

OLTP = "oltp"
OWNER_FAMILIES = ("oltp_identities", "stock_identity", "oltp_lake", "log_manifests")
AT_FAULT, NO_ROW = "OLTP itself is at fault", "OLTP has no row of"
UNEXPLAINED, NO_COMMAND = "no event explains the change", "no command wrote it"


def _for_people(damage: str, do: Damage, undo: Undo, reason: str, **found: Class) -> Cell:
    """Return a cell of OLTP; `found`: what each pair must report."""
    return Cell(damage=damage, store=OLTP, do=do, named=names(**found), reason=reason, undo=undo)


def _at_fault(damage: str, do: Damage, undo: Undo, **found: Class) -> Cell:
    """Return a cell of rows of OLTP that contradict each other, and of which the events say otherwise."""
    return _for_people(damage, do, undo, AT_FAULT, oltp_identities=Class.IDENTITY, **found)


def _forged(damage: str, do: Damage, reason: str, **found: Class) -> Cell:
    """Return a cell of rows that agree with each other, and that no event explains."""
    return _for_people(damage, do, forged.correct_by_command, reason, **found)


PEOPLE_CELLS = (
    _at_fault("refunded more than captured", oltp.refund_too_much, oltp.correct_refund, oltp_lake__refund=Class.AMOUNT),
    _at_fault(
        "captured changed by one minor unit",
        oltp.capture_one_less,
        oltp.correct_capture,
        oltp_lake__payment=Class.AMOUNT,
    ),
    _at_fault(
        "one minor unit unallocated without a receipt",
        oltp.unallocate_one_more,
        oltp.correct_unallocated,
        oltp_lake__payment=Class.AMOUNT,
    ),
    _at_fault(
        "gift card credited by one minor unit without a refund",
        oltp.credit_one_more,
        oltp.correct_card,
        oltp_lake__gift_card=Class.AMOUNT,
    ),
    _at_fault(
        "order's total changed by one minor unit",
        oltp.total_one_more,
        oltp.correct_total,
        oltp_lake__order=Class.AMOUNT,
    ),
    _at_fault("two lines wrong, total right", oltp.change_two_lines, oltp.correct_lines, oltp_lake__order=Class.AMOUNT),
    _at_fault("two taxes of a line swapped", oltp.swap_taxes, oltp.correct_taxes, oltp_lake__order=Class.TAX),
    _at_fault("one of a line's taxes lost", oltp.lose_one_tax, oltp.restore_tax, oltp_lake__order=Class.EXTRA),
    _at_fault(
        "payment in another currency than its order",
        oltp.change_payment_currency,
        oltp.correct_payment_currency,
        oltp_lake__payment=Class.CURRENCY,
    ),
    _at_fault(
        "order and payment in yen",
        oltp.change_both_currencies,
        oltp.correct_both_currencies,
        oltp_lake__order=Class.CURRENCY,
        oltp_lake__payment=Class.CURRENCY,
    ),
    _for_people("stock miscounted", oltp.miscount_stock, oltp.count_stock, AT_FAULT, stock_identity=Class.DIFFERENT),
    _for_people(
        "row deleted past the outbox",
        oltp.delete_adjustment,
        oltp.restore_adjustment,
        NO_ROW,
        oltp_lake__adjustment=Class.EXTRA,
    ),
    _for_people(
        "event altered in the outbox",
        oltp.change_event,
        oltp.restore_event,
        "The outbox says otherwise of event",
        log_manifests=Class.DIFFERENT,
    ),
)

TAMPERED_CELLS = (
    _forged("price doubled, with all that must agree", forged.raise_price, UNEXPLAINED, oltp_lake__order=Class.AMOUNT),
    _forged(
        "account of a bank transfer changed past the outbox",
        oltp.change_account,
        UNEXPLAINED,
        oltp_lake__payment=Class.DIFFERENT,
    ),
    _forged("row inserted past the outbox", oltp.insert_adjustment, NO_COMMAND, oltp_lake__adjustment=Class.MISSING),
    _forged("payment that nobody authorized", forged.insert_payment, NO_COMMAND, oltp_lake__payment=Class.MISSING),
    _forged("gift card that nobody issued", forged.insert_gift_card, NO_COMMAND, oltp_lake__gift_card=Class.MISSING),
    _forged("order that nobody placed", forged.insert_order, NO_COMMAND, oltp_lake__order=Class.MISSING),
    _forged("payment deleted", forged.delete_payment, NO_ROW, oltp_lake__payment=Class.EXTRA),
)
