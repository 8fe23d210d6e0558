"""Comparing cached answers with OLTP: by key, each at the cut that it says it was read at.

Belongs here: what a page must say, in SQL of its own, and whether an event has touched it since. Does not belong here:
which answers are compared (`reconcile/copies/answer_cache.py`), drawing a sample (`stack/composition/sampling.py`).

An answer of cut *n* has every event of the cuts up to *n*, and may have later ones. If no event since S(n) concerns its
merchant, its product or one of its variants, it must say what OLTP says now: then a difference is an error of the
cache, whoever made it. If there was such an event, nothing is said of this answer: it is dropped, or about to be.

What this cannot catch: a lie that is younger than the sample, and one about a product that changes all the time. Where
the outbox was pruned since the answer was read, a change may look like an error; dropping the answer does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import psycopg

from contracts.struct_types import make_known


class Finding(StrEnum):
    """What a comparison of one answer found."""

    SAME = "same"
    CHANGED = "changed"
    """An event has touched it since it was read, so it need not be the same."""
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """Its cut, or its epoch, is not one that this database knows: it could not be compared."""


@dataclass(frozen=True, kw_only=True)
class NamedAnswer:
    """Which answer: its kind, without the version of its shape, and what it is about."""

    text: str
    """Its name in the cache."""
    kind: str
    merchant_id: str
    subject: str


@dataclass(frozen=True, kw_only=True)
class GoodAnswer:
    """An answer that the cache would serve as a good one."""

    cut: int
    body: bytes | None
    """None: the cache says that there is no such thing."""


@dataclass(frozen=True, kw_only=True)
class HeldFloors:
    """How far the cache has followed a pod, and the last cut that touched each tag, read at one moment."""

    since_cut: int
    """Floors up to this cut are not kept: answers from before it are not good."""
    applied_cut: int
    """Every event up to this cut is in the floors."""
    begun_cut: int
    """Events up to this cut may be in them."""
    floors: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class HeldAnswers:
    """What the cache holds of one pod."""

    names: Callable[[], Iterable[NamedAnswer]]
    good: Callable[[Sequence[NamedAnswer]], Mapping[str, GoodAnswer]]
    """Returns by name those that the cache would serve."""
    floors: Callable[[int], HeldFloors | None]
    """(Cut) -> the floors above it; None: the cache follows nothing of the pod, and serves nothing of it."""


class _Variant(msgspec.Struct, frozen=True, kw_only=True):
    variant_id: str
    sku: str
    title: str
    unit_price_micro: int | None
    available_quantity: int | None
    is_active: bool


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    product_id: str
    version: int
    title: str
    kind: str
    is_active: bool
    currency: str
    variants: list[_Variant]


class _Title(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class _FoundVariant(msgspec.Struct, frozen=True, kw_only=True):
    variant_id: str
    sku: str
    title: str
    unit_price_micro: int | None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    product_id: str
    title: _Title
    variants: list[_FoundVariant]


class _SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[_Found]


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    page: _SearchPage


make_known(_Page, _Variant, _Kept)

_BEGIN = "set transaction isolation level repeatable read, read only"
_PRODUCT = """
select p.product_id::text, p.version, p.title, p.kind, p.is_active, m.currency, m.is_active
from oltp.products as p inner join oltp.merchants as m on m.merchant_id = p.merchant_id
where p.merchant_id = %(merchant_id)s and p.product_id::text = %(product_id)s
"""
_VARIANTS = """
with units as (
    select variant_id, sum(on_hand) - sum(reserved) as free from oltp.stock_levels
    where merchant_id = %(merchant_id)s group by variant_id
)
select v.variant_id::text, v.sku, v.title, v.is_active, r.unit_price_micro, coalesce(units.free, 0)::bigint
from oltp.variants as v
left join oltp.prices as r on r.variant_id = v.variant_id and r.currency = %(currency)s
left join units on units.variant_id = v.variant_id
where v.product_id::text = %(product_id)s
"""
_SNAPSHOT = "select exists (select from oltp.cuts where cut = %(cut)s)"
_TOUCHED = """
select exists (
    select from oltp.outbox as event, oltp.cuts
    where cuts.cut = %(cut)s and event.xid >= pg_snapshot_xmin(cuts.snapshot)
        and not pg_visible_in_snapshot(event.xid, cuts.snapshot)
        and event.merchant_id = %(merchant_id)s
        and (
            event.aggregate_type = 'merchant'
            or event.aggregate_type = 'product' and event.aggregate_id = %(product_id)s
            or event.aggregate_type = 'stock_movement'
                and event.payload -> 'state' ->> 'variant_id' = any(%(variants)s::text[])
            or event.aggregate_type = 'reservation' and exists (
                select from json_array_elements(event.payload -> 'state' -> 'lines') as line
                where line ->> 'variant_id' = any(%(variants)s::text[])
            )
        )
)
"""


_MERCHANT_FIELDS = (
    "version",
    "name",
    "currency",
    "is_active",
    "is_tax_inclusive",
    "jurisdiction",
    "shipping_fee_minor",
    "free_shipping_from_minor",
    "bank_transfer_days",
    "direct_debit_days",
    "ships_before_paid",
    "tax_rates",
)
_MERCHANT = f"""
select {", ".join(f"m.{field}" for field in _MERCHANT_FIELDS[:-1])}, (
    select coalesce(
        json_agg(
            json_build_array(t.jurisdiction, t.tax_category, t.owed_to, t.rate_ppm)
            order by t.jurisdiction collate "C", t.tax_category collate "C", t.owed_to collate "C"
        ), '[]'
    ) from oltp.merchant_tax_rates as t where t.merchant_id = m.merchant_id
) from oltp.merchants as m where m.merchant_id = %(merchant_id)s
"""
_LISTED = """
select p.product_id::text, v.variant_id::text, p.title, v.sku, v.title, r.unit_price_micro
from oltp.products as p
inner join oltp.merchants as m on m.merchant_id = p.merchant_id
inner join oltp.variants as v on v.product_id = p.product_id
left join oltp.prices as r on r.variant_id = v.variant_id and r.currency = m.currency
where p.merchant_id = %(merchant_id)s and p.product_id = any(%(ids)s::uuid[])
    and p.is_active and v.is_active and m.is_active
"""
_MERCHANT_TOUCHED = """
select exists (
    select from oltp.outbox as event, oltp.cuts
    where cuts.cut = %(cut)s and event.xid >= pg_snapshot_xmin(cuts.snapshot)
        and not pg_visible_in_snapshot(event.xid, cuts.snapshot)
        and event.merchant_id = %(merchant_id)s and event.aggregate_type = any(%(kinds)s)
)
"""


def compare_answers(reader_dsn: str, answers: Sequence[tuple[NamedAnswer, GoodAnswer]]) -> list[Finding]:
    """Return what each answer is, compared in one snapshot of its pod; unknown: of a kind that is not compared."""
    with psycopg.connect(reader_dsn) as connection:
        connection.execute(_BEGIN)
        return [_compare(connection, name, answer) for name, answer in answers]


def _compare(connection: psycopg.Connection[Any], name: NamedAnswer, answer: GoodAnswer) -> Finding:
    (is_known,) = connection.execute(_SNAPSHOT, {"cut": answer.cut}).fetchone() or (False,)
    if not is_known or name.kind not in _COMPARED:
        return Finding.UNKNOWN
    return _COMPARED[name.kind](connection, name, answer)


def _compare_page(connection: psycopg.Connection[Any], name: NamedAnswer, answer: GoodAnswer) -> Finding:
    key = {"merchant_id": name.merchant_id, "product_id": name.subject}
    expected = _expected(connection, key)
    if _decoded(answer.body) == expected:
        return Finding.SAME
    variants = [variant.variant_id for variant in expected.variants] if expected is not None else []
    touched = connection.execute(_TOUCHED, {**key, "cut": answer.cut, "variants": variants}).fetchone()
    return Finding.CHANGED if touched is not None and touched[0] else Finding.DIFFERENT


def _decoded(body: bytes | None) -> _Page | bytes | None:
    """Return the page, or its bytes where they are none: these equal nothing that is expected."""
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return body


def _expected(connection: psycopg.Connection[Any], key: Mapping[str, str]) -> _Page | None:
    row = connection.execute(_PRODUCT, key).fetchone()
    if row is None:
        return None
    product_id, version, title, kind, is_active, currency, is_trading = row
    rows = connection.execute(_VARIANTS, {**key, "currency": currency}).fetchall()
    variants = [
        _Variant(
            variant_id=variant_id,
            sku=sku,
            title=variant_title,
            unit_price_micro=price,
            available_quantity=free if kind == "goods" else None,
            is_active=is_offered and is_active and is_trading,
        )
        for variant_id, sku, variant_title, is_offered, price, free in rows
    ]
    return _Page(
        product_id=product_id,
        version=version,
        title=title,
        kind=kind,
        is_active=is_active,
        currency=currency,
        variants=sorted(variants, key=lambda variant: (variant.sku, variant.variant_id)),
    )


def _compare_merchant(connection: psycopg.Connection[Any], name: NamedAnswer, answer: GoodAnswer) -> Finding:
    """Compare a configuration by all that it is made of; its tax rates as one text, in their order."""
    row = connection.execute(_MERCHANT, {"merchant_id": name.merchant_id}).fetchone()
    expected = None if row is None else dict(zip(_MERCHANT_FIELDS, row, strict=True))
    if _decoded_merchant(answer.body) == expected:
        return Finding.SAME
    return _unless_touched(connection, name, answer, ("merchant",))


def _decoded_merchant(body: bytes | None) -> Mapping[str, Any] | bytes | None:
    try:
        said = None if body is None else msgspec.json.decode(body)
        if said is None:
            return None
        rates = [
            (one["jurisdiction"], one["tax_category"], one.get("owed_to", ""), one["rate_ppm"])
            for one in said["tax_rates"]
        ]
        return {**{field: said.get(field) for field in _MERCHANT_FIELDS}, "tax_rates": [list(rate) for rate in rates]}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return body


def _compare_search(connection: psycopg.Connection[Any], name: NamedAnswer, answer: GoodAnswer) -> Finding:
    """Compare what a search says of each product that it lists: title, variants and prices."""
    try:
        listed = msgspec.json.decode(answer.body or b"", type=_Kept).page.items
    except msgspec.MsgspecError:
        return Finding.DIFFERENT
    ids = [item.product_id for item in listed]
    rows = connection.execute(_LISTED, {"merchant_id": name.merchant_id, "ids": ids}).fetchall()
    known = {(product_id, variant_id): tuple(rest) for product_id, variant_id, *rest in rows}
    said = {
        (item.product_id, one.variant_id): (item.title.text, one.sku, one.title, one.unit_price_micro)
        for item in listed
        for one in item.variants
    }
    if all(known.get(key) == facts for key, facts in said.items()):
        return Finding.SAME
    return _unless_touched(connection, name, answer, ("merchant", "product"))


def _unless_touched(
    connection: psycopg.Connection[Any], name: NamedAnswer, answer: GoodAnswer, kinds: Sequence[str]
) -> Finding:
    bound = {"merchant_id": name.merchant_id, "cut": answer.cut, "kinds": list(kinds)}
    touched = connection.execute(_MERCHANT_TOUCHED, bound).fetchone()
    return Finding.CHANGED if touched is not None and touched[0] else Finding.DIFFERENT


_COMPARED: Mapping[str, Callable[[psycopg.Connection[Any], NamedAnswer, GoodAnswer], Finding]] = {
    "product_page": _compare_page,
    "search_page": _compare_search,
    "merchant": _compare_merchant,
}
"""By kind of answer."""
