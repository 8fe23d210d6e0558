"""Merchants, entitlements and the catalog through their commands, on a real pod."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.events.common import AggregateState
from contracts.events.merchant import MerchantState, Synonym, TaxRate
from contracts.events.product import Attribute, ProductKind, ProductState
from contracts.settings import PodSettings
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.grant_entitlement import GrantCustomerEntitlement, GrantMerchantEntitlement
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.revoke_entitlement import RevokeCustomerEntitlement, RevokeMerchantEntitlement
from oltp.commands.set_price import SetPrice
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.commands.upsert_variant import UpsertVariant
from oltp.store.rows import load
from tests.integration.oltp_pod import LATER, MERCHANT, RATES, add_product, key, register


def do(pod: CommandPod, command: Command[Any]) -> Any:
    return execute(pod, command, idempotency_key=key())


class Read(Command[AggregateState], frozen=True, kw_only=True):
    """Read an aggregate back from its rows; answers the same as the command that wrote it, or the rows are wrong."""

    expected: ProductState | MerchantState

    def run(self, tx: Any) -> AggregateState:
        expected = self.expected
        return load(tx, type(expected), self.merchant_id, expected.aggregate_id)


def test_configuring_replaces_what_is_given_and_keeps_the_rest(pod: CommandPod) -> None:
    registered = register(pod)
    rates = [TaxRate(jurisdiction="GB", tax_category="zero", rate_ppm=0), RATES[1]]
    command = ConfigureMerchant(merchant_id=MERCHANT, name="Acme Ltd", is_active=False, tax_rates=rates)
    configured = do(pod, command)
    assert (registered.version, configured.version) == (1, 2)
    assert (configured.name, configured.is_active, configured.shipping_fee_minor) == ("Acme Ltd", False, 495)
    assert [rate.tax_category for rate in configured.tax_rates] == ["standard", "zero"]
    assert do(pod, Read(merchant_id=MERCHANT, expected=configured)) == configured


def test_free_shipping_can_be_given_and_taken_away(pod: CommandPod) -> None:
    register(pod)
    given = do(pod, ConfigureMerchant(merchant_id=MERCHANT, free_shipping_from_minor=5_000))
    kept = do(pod, ConfigureMerchant(merchant_id=MERCHANT, name="B"))
    taken = do(pod, ConfigureMerchant(merchant_id=MERCHANT, free_shipping_from_minor=None))
    assert [state.free_shipping_from_minor for state in (given, kept, taken)] == [5_000, 5_000, None]


def test_a_merchant_that_makes_no_sense_is_refused(pod: CommandPod) -> None:
    valid: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "name": "Acme",
        "currency": "GBP",
        "is_tax_inclusive": True,
        "jurisdiction": "GB",
    }
    mistakes: list[dict[str, Any]] = [
        {"currency": "XXX"},
        {"merchant_id": "a/b"},
        {"merchant_id": " a"},
        {"shipping_fee_minor": -1},
        {"tax_rates": [RATES[0], RATES[0]]},
        {"tax_rates": [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=-1)]},
    ]
    for mistake in mistakes:
        with pytest.raises(InputError):
            do(pod, RegisterMerchant(**{**valid, **mistake}))


def test_a_merchant_registers_once(pod: CommandPod) -> None:
    register(pod)
    with pytest.raises(ConflictError, match="registered already"):
        register(pod)


def test_the_currency_is_free_only_until_there_are_products(pod: CommandPod) -> None:
    register(pod)
    assert do(pod, ConfigureMerchant(merchant_id=MERCHANT, currency="EUR")).currency == "EUR"
    add_product(pod, "a")
    with pytest.raises(ConflictError, match="can no longer change"):
        do(pod, ConfigureMerchant(merchant_id=MERCHANT, currency="GBP"))


def test_upserts_add_and_change_and_prices_stay(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    register(pod)
    created = add_product(pod, "b", "a")
    assert [variant.sku for variant in created.variants] == ["a", "b"]
    first, second = created.variants
    renamed = VariantInput(variant_id=second.variant_id, sku="A2", title="Renamed", is_active=False)
    added = VariantInput(variant_id=str(uuid.uuid4()), sku="c", title="No price")
    upserted = do(
        pod,
        UpsertProduct(merchant_id=MERCHANT, product_id=created.product_id, title="Changed", variants=[renamed, added]),
    )
    assert [(variant.sku, variant.unit_price_micro) for variant in upserted.variants] == [
        ("A2", 2_500_000),
        ("a", 2_500_000),
        ("c", None),
    ]
    again = UpsertVariant(
        merchant_id=MERCHANT, product_id=created.product_id, variant_id=first.variant_id, sku="a", title="Same price"
    )
    assert do(pod, again).variants[1].unit_price_micro == 2_500_000
    for price in (1, 2):
        priced = do(pod, SetPrice(merchant_id=MERCHANT, variant_id=added.variant_id, unit_price_micro=price))
    assert priced.variants[2].unit_price_micro == 2
    assert do(pod, Read(merchant_id=MERCHANT, expected=priced)) == priced
    with psycopg.connect(settings_of_pod.reader_dsn) as connection:
        assert connection.execute("select distinct currency from oltp.prices").fetchall() == [("GBP",)]


def test_an_sku_names_one_variant_of_a_merchant(pod: CommandPod) -> None:
    register(pod)
    add_product(pod, "a")
    with pytest.raises(ConflictError, match="another variant with this SKU"):
        add_product(pod, "a")
    add_product(pod, "A")
    register(pod, "other")
    add_product(pod, "a", merchant_id="other")


def test_a_variant_belongs_to_one_product(pod: CommandPod) -> None:
    register(pod)
    variant = add_product(pod, "a").variants[0]
    other = add_product(pod, "b")
    command = UpsertVariant(
        merchant_id=MERCHANT, product_id=other.product_id, variant_id=variant.variant_id, sku="c", title="C"
    )
    with pytest.raises(ConflictError, match="id given for variants is used already"):
        do(pod, command)


def test_goods_do_not_become_services(pod: CommandPod) -> None:
    register(pod)
    product = add_product(pod, "a")
    command = UpsertProduct(merchant_id=MERCHANT, product_id=product.product_id, title="P", kind=ProductKind.SERVICE)
    with pytest.raises(ConflictError, match="a kind cannot change"):
        do(pod, command)


def test_what_does_not_exist_is_not_found(pod: CommandPod) -> None:
    register(pod)
    nothing = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        do(pod, SetPrice(merchant_id=MERCHANT, variant_id=nothing, unit_price_micro=1))
    with pytest.raises(NotFoundError):
        do(pod, UpsertVariant(merchant_id=MERCHANT, product_id=nothing, variant_id=nothing, sku="a", title="A"))
    with pytest.raises(InputError, match="not a UUID"):
        do(pod, SetPrice(merchant_id=MERCHANT, variant_id="a", unit_price_micro=1))


def test_one_merchant_cannot_touch_anothers_product(pod: CommandPod) -> None:
    register(pod)
    register(pod, "other")
    product = add_product(pod, "a")
    with pytest.raises(NotFoundError):
        do(pod, SetPrice(merchant_id="other", variant_id=product.variants[0].variant_id, unit_price_micro=1))
    with pytest.raises(ConflictError, match="used already"):
        do(pod, UpsertProduct(merchant_id="other", product_id=product.product_id, title="Mine"))


@pytest.mark.parametrize("of_customer", [False, True], ids=["merchant", "customer"])
def test_the_best_surviving_grantor_decides(pod: CommandPod, of_customer: bool) -> None:
    register(pod)
    who: dict[str, Any] = {"merchant_id": MERCHANT, "feature": "exports"}
    grant, revoke = (
        (GrantCustomerEntitlement, RevokeCustomerEntitlement)
        if of_customer
        else (GrantMerchantEntitlement, RevokeMerchantEntitlement)
    )
    if of_customer:
        who["customer_id"] = "c1"
    with pytest.raises(NotFoundError, match="never entitled"):
        do(pod, revoke(**who, grantor="plan:pro"))
    do(pod, grant(**who, grantor="plan:basic", level=1))
    best = do(replace(pod, clock=lambda: LATER), grant(**who, grantor="plan:pro", level=3))
    assert best.effective_level == 3
    with pytest.raises(ConflictError, match="already granted"):
        do(pod, grant(**who, grantor="plan:pro", level=2))
    after = do(pod, revoke(**who, grantor="plan:pro"))
    assert (after.version, after.effective_level) == (3, 1)
    assert after.effective_grant_id == after.grants[0].grant_id
    with pytest.raises(ConflictError, match="nothing here that could be revoked"):
        do(pod, revoke(**who, grantor="plan:pro"))
    none = do(pod, revoke(**who, grantor="plan:basic"))
    assert (none.effective_level, none.effective_grant_id, len(none.grants)) == (0, None, 2)


def test_a_grant_that_expired_makes_room_for_another_of_its_grantor(pod: CommandPod) -> None:
    register(pod)
    grant = GrantMerchantEntitlement(merchant_id=MERCHANT, feature="f", grantor="trial", expires_at=LATER)
    do(pod, grant)
    later = replace(pod, clock=lambda: LATER + timedelta(seconds=1))
    state = do(later, GrantMerchantEntitlement(merchant_id=MERCHANT, feature="f", grantor="trial", level=2))
    assert (state.effective_level, len(state.grants)) == (2, 2)


def test_what_a_product_is_searched_by_stays_until_it_is_given(pod: CommandPod) -> None:
    register(pod)
    named = [Attribute(name="size", value="90 cm"), Attribute(name="color", value="red")]
    like: dict[str, Any] = {"merchant_id": MERCHANT, "product_id": str(uuid.uuid4()), "title": "Umbrella"}
    bare = do(pod, UpsertProduct(**like))
    assert (bare.brand, bare.body, bare.attributes) == ("", "", [])
    full = do(pod, UpsertProduct(**like, brand="Dry", body="Opens by itself.\nFolds.", attributes=named))
    kept = do(pod, UpsertProduct(**like))
    assert [one.name for one in kept.attributes] == ["color", "size"]
    assert kept == msgspec.structs.replace(full, version=3)
    assert do(pod, Read(merchant_id=MERCHANT, expected=kept)) == kept
    changed = do(pod, UpsertProduct(**like, body="", attributes=[Attribute(name="size", value="1 m")]))
    assert (changed.brand, changed.body) == ("Dry", "")
    assert changed.attributes == [Attribute(name="size", value="1 m")]
    assert do(pod, Read(merchant_id=MERCHANT, expected=changed)) == changed


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"attributes": [("brand", "Dry")]}, "field of its own"),
        ({"attributes": [("color", "red"), ("color", "blue")]}, "given twice"),
        ({"attributes": [("a,b", "red")]}, "no name of an attribute"),
        ({"attributes": [("a\\b", "red")]}, "no name of an attribute"),
        ({"attributes": [(" a", "red")]}, "no name of an attribute"),
        ({"attributes": [("", "red")]}, "has 0 characters"),
        ({"attributes": [("color", "x" * 501)]}, "has 501 characters"),
        ({"attributes": [(f"n{number}", "x") for number in range(65)]}, "has 65 items; attributes are at most 64"),
        ({"body": "x" * 10_001}, "a description has 0 to 10,000"),
        ({"brand": "a\nb"}, "holds the character"),
    ],
)
def test_what_cannot_be_searched_by_is_refused(pod: CommandPod, given: dict[str, Any], sentence: str) -> None:
    register(pod)
    if "attributes" in given:
        given = {"attributes": [Attribute(name=name, value=value) for name, value in given["attributes"]]}
    with pytest.raises(InputError, match=sentence):
        do(pod, UpsertProduct(merchant_id=MERCHANT, product_id=str(uuid.uuid4()), title="Umbrella", **given))


def test_synonyms_are_replaced_as_a_whole(pod: CommandPod) -> None:
    assert register(pod).synonyms == []
    said = [Synonym(words="sofa", means="couch"), Synonym(words="couch", means="sofa")]
    configured = do(pod, ConfigureMerchant(merchant_id=MERCHANT, synonyms=said))
    assert configured.synonyms == [said[1], said[0]]
    kept = do(pod, ConfigureMerchant(merchant_id=MERCHANT, name="B"))
    assert kept.synonyms == configured.synonyms
    assert do(pod, Read(merchant_id=MERCHANT, expected=kept)) == kept
    left = do(pod, ConfigureMerchant(merchant_id=MERCHANT, synonyms=[said[0]]))
    assert do(pod, Read(merchant_id=MERCHANT, expected=left)) == left and left.synonyms == [said[0]]
    assert do(pod, ConfigureMerchant(merchant_id=MERCHANT, synonyms=[])).synonyms == []


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([("sofa", "couch")] * 2, "The synonym 'sofa' for 'couch' is given twice."),
        ([("sofa", "Sofa")], "means itself"),
        ([("++", "plus")], "needs a letter or a digit"),
        ([("sofa", "x" * 101)], "has 101 characters"),
        ([(f"w{number}", "x") for number in range(1_001)], "has 1,001 items"),
    ],
)
def test_a_synonym_that_says_nothing_is_refused(pod: CommandPod, pairs: list[tuple[str, str]], sentence: str) -> None:
    register(pod)
    with pytest.raises(InputError, match=sentence):
        said = [Synonym(words=words, means=means) for words, means in pairs]
        do(pod, ConfigureMerchant(merchant_id=MERCHANT, synonyms=said))
