"""What the embedded provider would notify of money that comes later: it stands for the bank behind it.

Belongs here: such notifications, as values that follow from a payment and a name. Does not belong here: applying them
(`oltp/notifying.py`), what the provider answers at once (`oltp/gateway.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from contracts.events.payment import PaymentState
from oltp.domain.notifications import Notification, NotificationKind
from oltp.gateway import EmbeddedGateway


def received(payment: PaymentState, receipt: str, amount_minor: int, at: datetime) -> Notification:
    """Money came: the customer's transfer, or what was collected."""
    return _about(
        payment,
        NotificationKind.PAYMENT_RECEIVED,
        receipt,
        at,
        reference=f"{payment.provider_reference}/{receipt}",
        amount_minor=amount_minor,
        currency=payment.currency,
    )


def failed(payment: PaymentState, reason: str, at: datetime) -> Notification:
    """The customer's bank does not pay."""
    return _about(payment, NotificationKind.PAYMENT_FAILED, "failed", at, reason=reason)


def returned(
    payment: PaymentState, receipt: str, amount_minor: int, fee_minor: int, reason: str, at: datetime
) -> Notification:
    """The customer's bank took a receipt back, and the provider keeps a fee."""
    return _about(
        payment,
        NotificationKind.PAYMENT_RETURNED,
        f"{receipt}/returned",
        at,
        reference=f"{payment.provider_reference}/{receipt}",
        amount_minor=amount_minor,
        fee_minor=fee_minor,
        currency=payment.currency,
        reason=reason,
    )


def _about(payment: PaymentState, kind: NotificationKind, name: str, at: datetime, **says: Any) -> Notification:
    return Notification(
        id=f"{EmbeddedGateway.name}/{payment.payment_id}/{name}",
        type=kind,
        merchant_id=payment.merchant_id,
        created_at=at,
        authorization_reference=payment.provider_reference,
        **says,
    )
