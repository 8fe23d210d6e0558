"""Routes of the catalog as a storefront reads it: one page through the cache, lists from OLTP.

Belongs here: reading products. What is decided on a page is read again by the command that decides. Does not belong
here: changing products (`api/routes/catalog.py`), searching them.
"""

from __future__ import annotations

from api.calls import Answer, Call
from api.copy_headers import copy_headers
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Role, Route, Work
from api.reading import wants_now
from contracts.errors import NotFoundError
from oltp.reads.products import ProductPage, product_pages

READERS = frozenset({Role.STOREFRONT, Role.ADMIN})


def get_product(call: Call) -> Answer:
    """Return a product with the prices and the units that can be sold.

    A storefront may get an answer that was put together some seconds ago: `Age` says how many, `Tieout-Source` where it
    is from. Staff, and whoever names a position, get what is true at this moment.
    """
    product_id = call.uuid("product_id")
    served = call.services.answers.product_page(call.merchant_id, product_id, is_fresh=wants_now(call))
    if served.body is None:
        raise NotFoundError(f"Merchant {call.merchant_id} has no product {product_id}.")
    return Answer(value=served.body, headers=copy_headers(served.source) | {"Age": str(int(served.age_seconds))})


def list_products(call: Call) -> Answer:
    """Return a page of the merchant's products, by id."""
    scope = ("products", call.merchant_id)
    after = position_after(call.services.cursors, scope, call.query.after)
    with call.services.pods.reading(call.merchant_id) as connection:
        found = product_pages(
            connection, call.merchant_id, after=after[0] if after else None, limit=call.query.limit + 1
        )
    page = page_of(call.services.cursors, scope, found, call.query.limit, lambda product: (product.product_id,))
    return Answer(value=page, headers=copy_headers("oltp"))


ROUTES = (
    Route(
        name="list_products",
        method="GET",
        path="/v1/products",
        summary="The merchant's products, page by page",
        handler=list_products,
        roles=READERS,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=5.0,
        answer=Page[ProductPage],
        query=PageQuery,
    ),
    Route(
        name="get_product",
        method="GET",
        path="/v1/products/{product_id}",
        summary="A product as it can be bought",
        handler=get_product,
        roles=READERS,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=2.0,
        answer=ProductPage,
        takes_position=True,
        parameters={"product_id": "The product's id"},
    ),
)
