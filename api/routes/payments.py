"""Routes of money: authorizing, capturing, voiding, giving back.

Belongs here: payments, refunds, gift cards. Does not belong here: an order's goods (`api/routes/orders.py`).
"""

from __future__ import annotations

from api.commands import command_route
from api.declaring import Criticality, Route, Work
from api.roles import ADMINS, SELLERS
from contracts.errors import (
    ConflictError,
    GatewayError,
    IllegalTransitionError,
    InsufficientBalanceError,
    OverCaptureError,
    OverRefundError,
    TieoutError,
)
from contracts.events.payment import PaymentState
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command
from oltp.commands.fail_payment import FailPayment
from oltp.commands.fail_refund import FailRefund
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.request_refund import RequestRefund
from oltp.commands.return_payment import ReturnPayment
from oltp.commands.void_payment import VoidPayment


def _paying(path: str, command: type[Command[PaymentState]], name: str, raised: type[TieoutError]) -> Route:
    """Return the route of a command that makes a payment of an order: a checkout waits for it."""
    return command_route(
        "POST",
        f"/v1/orders/{{order_id}}/{path}",
        command,
        name,
        roles=SELLERS,
        work=Work.CHECKOUT,
        criticality=Criticality.CHECKOUT,
        status=201,
        raises=(raised,),
    )


ROUTES: tuple[Route, ...] = (
    _paying("payments", AuthorizePayment, "authorize_payment", GatewayError),
    _paying("awaited-payments", AwaitPayment, "await_payment", GatewayError),
    _paying("gift-card-payments", RedeemGiftCard, "redeem_gift_card", InsufficientBalanceError),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/captures",
        CapturePayment,
        "capture_payment",
        roles=ADMINS,
        raises=(OverCaptureError, IllegalTransitionError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/voids",
        VoidPayment,
        "void_payment",
        roles=ADMINS,
        raises=(IllegalTransitionError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/receipts",
        ReceivePayment,
        "receive_payment",
        roles=ADMINS,
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/failures",
        FailPayment,
        "fail_payment",
        roles=ADMINS,
        raises=(IllegalTransitionError,),
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/returns",
        ReturnPayment,
        "return_payment",
        roles=ADMINS,
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/give-backs",
        GiveBackUnallocated,
        "give_back_unallocated",
        roles=ADMINS,
        raises=(ConflictError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/refunds",
        RequestRefund,
        "request_refund",
        roles=ADMINS,
        status=201,
        raises=(OverRefundError,),
    ),
    command_route(
        "POST",
        "/v1/refunds/{refund_id}/completions",
        CompleteRefund,
        "complete_refund",
        roles=ADMINS,
        raises=(IllegalTransitionError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/refunds/{refund_id}/failures",
        FailRefund,
        "fail_refund",
        roles=ADMINS,
        raises=(IllegalTransitionError,),
    ),
    command_route("POST", "/v1/gift-cards", IssueGiftCard, "issue_gift_card", roles=ADMINS, status=201),
)
