"""The list of all commands, for generated documents and for code that iterates over them.

Belongs here: the list. Does not belong here: the commands, one file each.
"""

from __future__ import annotations

from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.apply_notification import ApplyNotification
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.check_out_cart import CheckOutCart
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.end_dispute import EndDispute
from oltp.commands.expire import ExpireGiftCards, ExpireReservations
from oltp.commands.expire_payment import ExpirePayment
from oltp.commands.fail_payment import FailPayment
from oltp.commands.fail_refund import FailRefund
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.grant_entitlement import GrantCustomerEntitlement, GrantMerchantEntitlement
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.open_dispute import OpenDispute
from oltp.commands.place_order import PlaceOrder
from oltp.commands.put_back import PutBack
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.receive_stock import ReceiveStock
from oltp.commands.record_dispute import RecordDispute
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.release_reservation import ReleaseReservation
from oltp.commands.request_refund import RequestRefund
from oltp.commands.reserve_stock import ReserveStock
from oltp.commands.restate import Restate
from oltp.commands.return_payment import ReturnPayment
from oltp.commands.reverse_refund import ReverseRefund
from oltp.commands.revoke_entitlement import RevokeCustomerEntitlement, RevokeMerchantEntitlement
from oltp.commands.set_price import SetPrice
from oltp.commands.spread_stock import SpreadStock
from oltp.commands.upsert_product import UpsertProduct
from oltp.commands.upsert_variant import UpsertVariant
from oltp.commands.void_payment import VoidPayment

COMMANDS = (
    AdjustStock,
    ApplyNotification,
    AuthorizePayment,
    AwaitPayment,
    BookAdjustment,
    CancelOrder,
    CapturePayment,
    CheckOutCart,
    CompleteRefund,
    ConfigureMerchant,
    EndDispute,
    ExpireGiftCards,
    ExpireReservations,
    ExpirePayment,
    FailPayment,
    FailRefund,
    FulfillOrder,
    GiveBackUnallocated,
    GrantMerchantEntitlement,
    GrantCustomerEntitlement,
    IssueGiftCard,
    OpenDispute,
    PlaceOrder,
    PutBack,
    ReceivePayment,
    ReceiveStock,
    RecordDispute,
    RedeemGiftCard,
    RegisterMerchant,
    ReleasePayment,
    ReleaseReservation,
    RequestRefund,
    ReserveStock,
    Restate,
    ReturnPayment,
    ReverseRefund,
    RevokeMerchantEntitlement,
    RevokeCustomerEntitlement,
    SetPrice,
    SpreadStock,
    UpsertProduct,
    UpsertVariant,
    VoidPayment,
)
"""In the alphabetical order of their files."""
