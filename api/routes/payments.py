"""Routes of money: authorizing, capturing, voiding, giving back.

Belongs here: payments, refunds, gift cards. Does not belong here: an order's goods (`api/routes/orders.py`).
"""

from __future__ import annotations

from typing import Any

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


def _paying(path: str, command: type[Command[Any]], refusal: type[TieoutError]) -> Route:
    """Return the route of a command by which an order is paid while a customer waits."""
    return command_route(
        "POST",
        path,
        command,
        roles=SELLERS,
        work=Work.CHECKOUT,
        criticality=Criticality.CHECKOUT,
        status=201,
        raises=(refusal,),
    )


ROUTES: tuple[Route, ...] = (
    _paying("/v1/orders/{order_id}/payments", AuthorizePayment, GatewayError),
    _paying("/v1/orders/{order_id}/awaited-payments", AwaitPayment, GatewayError),
    _paying("/v1/orders/{order_id}/gift-card-payments", RedeemGiftCard, InsufficientBalanceError),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/captures",
        CapturePayment,
        roles=ADMINS,
        raises=(OverCaptureError, IllegalTransitionError, GatewayError),
    ),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/voids",
        VoidPayment,
        roles=ADMINS,
        raises=(IllegalTransitionError, GatewayError),
    ),
    command_route("POST", "/v1/payments/{payment_id}/receipts", ReceivePayment, roles=ADMINS),
    command_route(
        "POST", "/v1/payments/{payment_id}/failures", FailPayment, roles=ADMINS, raises=(IllegalTransitionError,)
    ),
    command_route("POST", "/v1/payments/{payment_id}/returns", ReturnPayment, roles=ADMINS),
    command_route(
        "POST",
        "/v1/payments/{payment_id}/give-backs",
        GiveBackUnallocated,
        roles=ADMINS,
        raises=(ConflictError, GatewayError),
    ),
    command_route(
        "POST", "/v1/payments/{payment_id}/refunds", RequestRefund, roles=ADMINS, status=201, raises=(OverRefundError,)
    ),
    command_route(
        "POST",
        "/v1/refunds/{refund_id}/completions",
        CompleteRefund,
        roles=ADMINS,
        raises=(IllegalTransitionError, GatewayError),
    ),
    command_route(
        "POST", "/v1/refunds/{refund_id}/failures", FailRefund, roles=ADMINS, raises=(IllegalTransitionError,)
    ),
    command_route("POST", "/v1/gift-cards", IssueGiftCard, roles=ADMINS, status=201),
)
