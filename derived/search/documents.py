"""The documents of the index: what is made of a product and of a merchant, and how it fills the fields.

A document is a product with its variants in it. A shopper looks for a thing and then picks its size or color: a list
with a hit per variant would show one thing many times, its counts would count sizes, and the text of the product would
be indexed once per variant. Money and ids are exact: integers, and text in `row`.

Stock is not in a document. Whether a unit can be sold is decided by the command that reserves it, and a page that shows
a product asks OLTP; an index that is seconds old could only guess, and would be written at every order.

Belongs here: these rows and documents, pure. Does not belong here: writing them (`store.py`), the fields (`schema.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from tantivy import Document

from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.events.product import ProductState
from contracts.ids import aggregate_key
from contracts.struct_types import make_known
from derived.keyed.rows import Root, RootRow, row_of
from derived.search import schema
from derived.search.text import LANGUAGES


class ListedVariant(Value, frozen=True, kw_only=True):
    """A variant as a list shows it."""

    variant_id: str
    sku: str
    title: str
    is_active: bool
    unit_price_micro: int | None
    """None: not for sale at a catalog price."""


class ListedProduct(RootRow, frozen=True, kw_only=True):
    """A product as shoppers find it."""

    product_id: str
    title: str
    kind: str
    tax_category: str
    is_active: bool
    variants: Sequence[ListedVariant]
    """Ordered by (sku, variant_id)."""
    brand: str = ""
    body: str = ""
    """The description."""
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Name -> value, e.g. color -> red: to be found, filtered and counted by."""

    @property
    def offered(self) -> list[ListedVariant]:
        """The variants that are offered; none if the product is not."""
        return [variant for variant in self.variants if self.is_active and variant.is_active]


class ListedSynonym(Value, frozen=True, kw_only=True):
    """Words for which others are looked for as well."""

    words: str
    means: str


class ListedMerchant(RootRow, frozen=True, kw_only=True):
    """What a search must know of a merchant: whether it trades, its language by where it sells from, and synonyms."""

    aggregate_id: str
    """The same as `merchant_id`: the merchant is its own aggregate."""
    name: str
    currency: str
    is_active: bool
    jurisdiction: str
    synonyms: Sequence[ListedSynonym] = ()
    """Ordered by (words, means)."""


make_known(ListedProduct, ListedMerchant)


def key_of(root: Root, row: RootRow) -> str:
    """Return the aggregate key of a row, under which its document stands."""
    merchant_id, aggregate_id = root.key_of(row)
    return aggregate_key(merchant_id, root.aggregate_type, aggregate_id)


def document(root: Root, row: RootRow) -> Document:
    """Return the document of a row."""
    made = Document()
    made.add_text(schema.KEY, key_of(root, row))
    made.add_text(schema.KIND, root.aggregate_type)
    made.add_bytes(schema.ROW, msgspec.json.encode(row))
    if isinstance(row, ListedProduct):
        _add_product(made, row)
    return made


def _add_product(made: Document, row: ListedProduct) -> None:
    # Only products name their merchant in a field: nothing else can be a hit of a search.
    made.add_text(schema.MERCHANT, row.merchant_id)
    made.add_boolean(schema.IS_OFFERED, bool(row.offered))
    made.add_integer(schema.DIRECTORY_EPOCH, row.directory_epoch)
    details = [part for variant in row.variants for part in (variant.sku, variant.title) if part != row.title]
    details += row.attributes.values()
    texts = {schema.TITLE: row.title, schema.BODY: row.body, schema.DETAILS: "\n".join(dict.fromkeys(details))}
    for name, text in texts.items():
        for language in LANGUAGES if text else ():
            made.add_text(schema.text_field(name, language), text)
    made.add_text(schema.WORDS, "\n".join([*texts.values(), row.brand]))
    if row.brand:
        made.add_text(schema.BRAND, row.brand)
        made.add_text(schema.BRAND_WORDS, row.brand)
    if row.attributes:
        made.add_json(schema.ATTRIBUTES, {name: schema.VALUE_MARK + value for name, value in row.attributes.items()})
    prices = [variant.unit_price_micro for variant in row.offered if variant.unit_price_micro is not None]
    for price in prices:
        made.add_integer(schema.PRICES, price)
    if prices:
        made.add_integer(schema.PRICE_FROM, min(prices))


def _product(state: ProductState, pod: str, epoch: str) -> ListedProduct:
    return row_of(
        ListedProduct,
        state,
        pod,
        epoch,
        variants=[msgspec.convert(msgspec.structs.asdict(variant), ListedVariant) for variant in state.variants],
        attributes={attribute.name: attribute.value for attribute in state.attributes},
    )


def _merchant(state: MerchantState, pod: str, epoch: str) -> ListedMerchant:
    return row_of(
        ListedMerchant,
        state,
        pod,
        epoch,
        synonyms=[ListedSynonym(words=synonym.words, means=synonym.means) for synonym in state.synonyms],
    )


PRODUCTS = Root(table="search_products", state_type=ProductState, row_type=ListedProduct, row=_product)
MERCHANTS = Root(table="search_merchants", state_type=MerchantState, row_type=ListedMerchant, row=_merchant)
ROOTS = (PRODUCTS, MERCHANTS)
