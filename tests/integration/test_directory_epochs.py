"""Every event says since which epoch of the directory its merchant lives in the pod, whichever way its command ran."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from contracts.errors import PodFencedError
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import build_command_pod
from oltp.commands.upsert_product import UpsertProduct
from oltp.directory import assign, migrate_directory
from oltp.gateway import EmbeddedGateway, Moved
from tests.conftest import MakePod
from tests.integration.oltp_pod import key, register
from tests.integration.shop import MERCHANT, Shop, open_shop


class Remote(EmbeddedGateway):
    """A provider outside of this process: it is asked between two transactions."""

    is_local = False

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Take the money, and do what a test wants to happen meanwhile."""
        self.meanwhile()
        return Moved(reference="taken", amount_minor=amount_minor)

    def meanwhile(self) -> None:
        """Nothing happens meanwhile."""


@pytest.fixture
def shop(make_pod: MakePod) -> Iterator[Shop]:
    settings = make_pod()
    with build_command_pod(settings, gateway=Remote()) as pod:
        yield open_shop(pod, settings)


def epochs(shop: Shop, event_type: str) -> list[int]:
    return [
        row[0]
        for row in shop.query(
            "select directory_epoch from oltp.outbox where event_type = %s order by position", event_type
        )
    ]


def move(shop: Shop, statement: str) -> None:
    """Do to the residence what moving a merchant will do."""
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute(statement.encode())


def test_commands_batches_and_what_a_provider_answered_say_the_present_epoch(shop: Shop) -> None:
    payment = shop.authorize(shop.place(("MUG", 1)))
    assert {*epochs(shop, "order_placed"), *epochs(shop, "payment_authorized")} == {1}
    move(shop, "update oltp.residents set directory_epoch = 3")
    shop.do(ConfigureMerchant(merchant_id=MERCHANT, shipping_fee_minor=7), key())
    shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id), key())
    products = [
        BatchItem(
            command=UpsertProduct(merchant_id=MERCHANT, product_id=str(uuid7()), title=title), idempotency_key=key()
        )
        for title in ("Cup", "Pot")
    ]
    assert [answer.title for answer in execute_batch(shop.pod, products)] == ["Cup", "Pot"]
    for event_type in ("merchant_configured", "payment_captured"):
        assert epochs(shop, event_type) == [3], event_type
    assert epochs(shop, "product_upserted")[-2:] == [3, 3]


def test_what_a_provider_answered_is_not_recorded_where_the_merchant_lives_no_more(shop: Shop) -> None:
    payment = shop.authorize(shop.place(("MUG", 1)))
    shop.pod.gateway.meanwhile = lambda: move(shop, "delete from oltp.residents")  # type: ignore[attr-defined]
    with pytest.raises(PodFencedError, match="does not live in"):
        shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id), key())
    assert shop.query("select kind from oltp.provider_calls") == [("capture",)], "the call waits for its merchant"
    assert epochs(shop, "payment_captured") == []


def test_a_merchant_registers_with_the_directory_s_epoch(settings: Settings) -> None:
    migrate_directory(settings.control_dsn)
    assign(settings.control_dsn, MERCHANT, "pod1")
    with psycopg.connect(settings.control_dsn) as control:
        control.execute("update directory.placements set epoch = 4")
    with build_command_pod(settings.pods[0], control_dsn=settings.control_dsn) as pod:
        register(pod, MERCHANT)
    with psycopg.connect(settings.pods[0].reader_dsn) as connection:
        assert connection.execute("select directory_epoch from oltp.outbox").fetchall() == [(4,)]
