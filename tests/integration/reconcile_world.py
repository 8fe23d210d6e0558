"""A small shop in two pods, filled by real commands, for the tests of the comparison."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import psycopg
from psycopg.conninfo import conninfo_to_dict

from contracts.events.adjustment import AdjustmentKind
from contracts.events.gift_card import GiftCardFunding
from contracts.events.merchant import Synonym, TaxRate
from contracts.events.payment import PaymentMethod
from contracts.events.product import Attribute, ProductKind
from contracts.ownership import READ_MODELS
from contracts.settings import PodSettings, Settings
from derived.lake import migrate_lake
from drills.damages.place import Place
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.grant_entitlement import GrantCustomerEntitlement, GrantMerchantEntitlement
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.open_dispute import OpenDispute
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder, PriceOverride
from oltp.commands.quantities import QuantityInput
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from reconcile.context import ReconcileContext
from repair import ledger
from repair.tools import Repairing
from stack.composition.migrations import migrate_everything
from stack.composition.projections import build_projection
from streams.consumer import Consumer
from streams.draining import drain_pod
from streams.logs import build_log
from tests.conftest import Cluster
from tests.integration.shop import adjustment

VIEW_PAIRS = tuple(pair for copy in READ_MODELS for pair in copy.found_by)
"""The comparisons of all read models."""
SKUS = ("TEACUP", "SAUCER")
LOCATION = "main"


class Shop:
    """One merchant in one pod; every method is a step of its business."""

    def __init__(self, pod: CommandPod, merchant_id: str, currency: str = "GBP") -> None:
        self.pod = pod
        self.merchant_id = merchant_id
        self._numbers = itertools.count(1)
        self._do(
            RegisterMerchant(
                merchant_id=merchant_id,
                name=merchant_id.title(),
                currency=currency,
                is_tax_inclusive=True,
                jurisdiction="GB",
                shipping_fee_minor=499,
                free_shipping_from_minor=5_000,
                tax_rates=[
                    TaxRate(jurisdiction="GB", tax_category="shipping", rate_ppm=0),
                    TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000),
                ],
                synonyms=[Synonym(words="mug", means="teacup"), Synonym(words="plate", means="saucer")],
            )
        )
        variants = [
            VariantInput(variant_id=str(pod.new_uuid()), sku=sku, title=sku.title(), unit_price_micro=2_555_000)
            for sku in SKUS
        ]
        product = self._do(
            UpsertProduct(
                merchant_id=merchant_id,
                product_id=str(pod.new_uuid()),
                title="Tea things",
                kind=ProductKind.GOODS,
                tax_category="standard",
                is_active=True,
                variants=variants,
                brand="Potter",
                body="Cups and saucers of white china.",
                attributes=[Attribute(name="color", value="white"), Attribute(name="material", value="china")],
            )
        )
        stock = [StockInput(variant_id=variant.variant_id, quantity=10_000) for variant in product.variants]
        self._do(ReceiveStock(merchant_id=merchant_id, location_id=LOCATION, lines=stock, reason="opening"))

    def _do(self, command):
        return execute(self.pod, command, idempotency_key=f"{type(command).__name__}-{self.pod.new_uuid()}")

    def order(self, customer_id: str | None = "ada"):
        return self._do(
            PlaceOrder(
                merchant_id=self.merchant_id,
                order_number=f"{self.merchant_id}-{next(self._numbers)}",
                customer_id=customer_id,
                location_id=LOCATION,
                lines=[OrderLineInput(sku="TEACUP", quantity=3), OrderLineInput(sku="SAUCER", quantity=2)],
                discounts=[DiscountInput(code="TEA", amount_minor=101)],
            )
        )

    def give_away(self):
        """Place an order that costs nothing."""
        free = PriceOverride(unit_price_micro=0, source="gift", reason="sample")
        return self._do(
            PlaceOrder(
                merchant_id=self.merchant_id,
                order_number=f"{self.merchant_id}-{next(self._numbers)}",
                customer_id=None,
                location_id=LOCATION,
                lines=[OrderLineInput(sku="TEACUP", quantity=1, price_override=free)],
                shipping=[],
            )
        )

    def paid(self, customer_id: str | None = "ada"):
        order = self.order(customer_id)
        payment = self._do(AuthorizePayment(merchant_id=self.merchant_id, order_id=order.order_id))
        return order, self._do(CapturePayment(merchant_id=self.merchant_id, payment_id=payment.payment_id))

    def shipped(self):
        order, payment = self.paid()
        self._do(FulfillOrder(merchant_id=self.merchant_id, order_id=order.order_id, location_id=LOCATION))
        return order, payment

    def disputed(self):
        """Ship an order whose customer's bank asks a part of the money back."""
        order, payment = self.shipped()
        opened = OpenDispute(
            merchant_id=self.merchant_id,
            payment_id=payment.payment_id,
            provider_reference="dp_1",
            amount_minor=100,
            fee_minor=15,
            reason="not known",
        )
        return order, self._do(opened)

    def refunded(self):
        order, payment = self.shipped()
        return order, payment, self.give_back(order, payment)

    def give_back(self, order, payment):
        """Refund one unit of the first line."""
        line = order.lines[0]
        refund = self._do(
            RequestRefund(
                merchant_id=self.merchant_id,
                payment_id=payment.payment_id,
                lines=[RefundLineInput(order_line_id=line.order_line_id, quantity=1, is_restocked=True)],
                reason="broken",
            )
        )
        return self._do(CompleteRefund(merchant_id=self.merchant_id, refund_id=refund.refund_id))

    def cancel(self, order_id: str):
        return self._do(CancelOrder(merchant_id=self.merchant_id, order_id=order_id))

    def cancelled_in_part(self):
        order = self.order()
        lines = [QuantityInput(order_line_id=order.lines[0].order_line_id, quantity=1)]
        return self._do(CancelOrder(merchant_id=self.merchant_id, order_id=order.order_id, lines=lines))

    def rest(self) -> None:
        self._do(
            GrantMerchantEntitlement(
                merchant_id=self.merchant_id, feature="api", grantor="plan:pro", level=2, expires_at=None
            )
        )
        for grantor, level in (("plan:plus", 1), ("gift:1", 3)):
            self._do(
                GrantCustomerEntitlement(
                    merchant_id=self.merchant_id,
                    customer_id="ada",
                    feature="early",
                    grantor=grantor,
                    level=level,
                    expires_at=None,
                )
            )
        self._do(
            adjustment(self.merchant_id, -11_062_061_234, kind=AdjustmentKind.BAD_DEBT, external_reference="A563185")
        )

    def card(self):
        """Sell a gift card."""
        command = IssueGiftCard(
            merchant_id=self.merchant_id,
            funding=GiftCardFunding.SOLD,
            amount_minor=10_000,
            external_reference="till 1",
            source="test",
        )
        return self._do(command)

    def paid_by_card(self):
        """Sell a gift card, and spend a part of it."""
        order, card = self.order(), self.card()
        command = RedeemGiftCard(merchant_id=self.merchant_id, order_id=order.order_id, gift_card_id=card.gift_card_id)
        return order, self._do(command)

    def awaited(self):
        """Wait for the money of an order that its customer transfers."""
        order = self.order()
        command = AwaitPayment(
            merchant_id=self.merchant_id, order_id=order.order_id, method=PaymentMethod.BANK_TRANSFER
        )
        return order, self._do(command)

    def everything(self) -> None:
        self.give_away()
        self.order(None)
        self.order()
        self.paid()
        self.disputed()
        self.refunded()
        self.cancelled_in_part()
        self.awaited()
        self.rest()


@contextmanager
def behind_the_outbox(postgres: Cluster, pod: PodSettings) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection without triggers: writes that bypass every rule of the pod."""
    database = str(conninfo_to_dict(pod.owner_dsn)["dbname"])
    with psycopg.connect(postgres.superuser_dsn(database)) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


def propagate(settings: Settings, pod: PodSettings, projections: tuple[str, ...]) -> None:
    """Publish what is committed in a pod and apply it to these projections."""
    log = build_log(settings)
    try:
        cut = drain_pod(pod, settings).cut
        for name in projections:
            projection = build_projection(name, settings)
            Consumer(projection, pod.pod, log).drain(until_cut=cut)
            projection.close()
    finally:
        log.close()


def carrying(context: ReconcileContext, settings: Settings, projections: tuple[str, ...]) -> ReconcileContext:
    """Return a context in which asking how far log or lake is first brings everything there: no workers run here."""
    lake_cut, log_cut = context.lake_cut, context.log_cut
    assert log_cut is not None

    def carried_to_lake(connection: duckdb.DuckDBPyConnection, pod: str) -> int:
        propagate(settings, settings.pod(pod), projections)
        return lake_cut(connection, pod)

    def carried_to_log(pod: str) -> int:
        propagate(settings, settings.pod(pod), projections)
        return log_cut(pod)

    return replace(context, lake_cut=carried_to_lake, log_cut=carried_to_log)


@contextmanager
def open_shops(settings: Settings) -> Iterator[tuple[Shop, Shop]]:
    """One merchant in each pod."""
    with build_command_pod(settings.pods[0]) as first, build_command_pod(settings.pods[1]) as second:
        yield Shop(first, "united-kingdom"), Shop(second, "eire")


@dataclass(kw_only=True)
class DamagedPod:
    """A pod that a test damages, and then has compared and repaired."""

    tools: Repairing
    place: Place
    comparisons: int = 0

    @property
    def settings(self) -> Settings:
        return self.tools.settings

    @property
    def dsn(self) -> str:
        return self.settings.control_dsn

    def compare(self, *pairs: str) -> None:
        self.comparisons += 1
        ledger.record(self.dsn, self.tools.recheck(pairs, ("pod1",)), run=f"comparison {self.comparisons}")


def migrate_lake_of(settings: Settings) -> None:
    """Create the lake of all pods."""
    pods = [pod.pod for pod in settings.pods]
    migrate_lake(settings.catalog_dsn, settings.lake_data_path, pods=pods, partition_count=settings.partition_count)


@contextmanager
def busy_shops(settings: Settings) -> Iterator[tuple[Shop, Shop]]:
    """One merchant in each pod, for whom everything was done that can be done."""
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
        yield shops


def fill(settings: Settings) -> None:
    """Migrate two pods and their copies, and do everything in the pods that can be done."""
    migrate_everything(settings)
    with busy_shops(settings):
        pass


@contextmanager
def shop_in(settings: Settings, first_number: int, pod: int = 0) -> Iterator[Shop]:
    """Go on with the merchant of a pod, which `open_shops` has registered; its next order has this number."""
    with build_command_pod(settings.pods[pod]) as connected:
        shop = object.__new__(Shop)
        shop.pod, shop.merchant_id = connected, ("united-kingdom", "eire")[pod]
        shop._numbers = itertools.count(first_number)
        yield shop
