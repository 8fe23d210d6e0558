"""The page of a product with the cut that it is as of, in one statement and so in one snapshot.

Belongs here: reading it from a pod's database, the primary or a replica. Does not belong here: what a page shows
(`products.py`), keeping it (`derived/answer_cache/`), any decision (a command reads again what it decides on, in its
own transaction).
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from contracts.assembled import Assembled, merchant_tag, product_tag, variant_tag
from contracts.errors import PodFencedError
from contracts.struct_types import make_known
from oltp.reads.products import ONE_PRODUCT, ProductPage, VariantPage, product_of

make_known(ProductPage, list[VariantPage])

# One statement is one snapshot: the cut that it shows and the facts belong together.
_PAGE = f"""
select residents.directory_epoch, last_cut.cut, last_cut.epoch, page.*
from (select) as nothing
left join oltp.residents on residents.merchant_id = %(merchant_id)s
left join lateral (select cut, epoch from oltp.cuts order by cut desc limit 1) as last_cut on true
left join lateral ({ONE_PRODUCT}) as page on true
"""


def read_product_page(
    connection: psycopg.Connection[Any], merchant_id: str, product_id: str, *, directory_epoch: int
) -> Assembled:
    """Return a product's page as JSON, in one round trip; no body when the merchant has no such product.

    Raises PodFencedError unless the merchant lives in this pod since this epoch of the directory.
    """
    row = connection.execute(_PAGE.encode(), {"merchant_id": merchant_id, "product_id": product_id}).fetchone()
    resident_since, cut, epoch, *found = row if row is not None else (None, None, None, None)
    if resident_since != directory_epoch:
        raise PodFencedError(f"Merchant {merchant_id} does not live in this pod as of epoch {directory_epoch}.")
    page = product_of(found) if found[0] is not None else None
    shown = [variant_tag(variant.variant_id) for variant in page.variants] if page is not None else []
    return Assembled(
        body=msgspec.json.encode(page) if page is not None else None,
        epoch=epoch or "",
        cut=cut or 0,
        tags=(merchant_tag(merchant_id), product_tag(product_id), *shown),
    )
