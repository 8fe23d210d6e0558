"""Search in drills: a shopper looks through what a merchant offers, and orders what is still listed.

Belongs here: the question and the wrong decision. Does not belong here: steps for every copy (`drills/cells.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts.clock import utc_now
from derived.search.asking import Question, Search
from derived.search.folders import base_folder
from drills.answer import Answer
from drills.copies import Decisions
from drills.trading import Sale, merchant_of
from oltp.commands.upsert_product import UpsertProduct, VariantInput

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System

LISTED_MAX = 100


def ask(system: System, sale: Sale) -> Answer:
    """List what the merchant of a sale offers."""
    question = Question(merchant_id=merchant_of(sale.pod), limit=LISTED_MAX)
    found = Search(base_folder(system.settings)).ask(sale.pod, question)
    age = None if found.data_at is None else (utc_now() - found.data_at).total_seconds()
    facts = sorted(str(hit.product) for hit in found.hits)
    return Answer(facts=facts, cut=found.applied_cut, data_at=found.data_at, age_seconds=age)


def decide(scene: Scene) -> Callable[[Sale], Decisions]:
    """List a product in every pod; then take it off sale, and order it as a shopper who still finds it."""
    sku = f"LISTED-{uuid.uuid4().hex[:8]}"
    listed = {pod: _list(scene, pod, sku) for pod in scene.pods}

    def take_off_sale(sale: Sale) -> Decisions:
        product = listed[sale.pod]
        scene.trader.do(sale.pod, _product(sale.pod, product, sku, is_active=False))
        return {"ordering what is off sale": lambda: scene.trader.order(sale.pod, sku)}

    return take_off_sale


def _list(scene: Scene, pod: str, sku: str) -> str:
    product = str(uuid.uuid4())
    scene.trader.do(pod, _product(pod, product, sku, is_active=True))
    return product


def _product(pod: str, product_id: str, sku: str, *, is_active: bool) -> UpsertProduct:
    variant = VariantInput(variant_id=product_id, sku=sku, title=sku, unit_price_micro=1_990_000)
    return UpsertProduct(
        merchant_id=merchant_of(pod), product_id=product_id, title=sku, is_active=is_active, variants=[variant]
    )
