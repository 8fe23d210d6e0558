"""What the search index must hold, computed from the lake's states, and reading what it holds.

One commit of a pod's index has its documents and its positions; the lake is folded as of these positions. The index is
read by its stored rows, with the engine alone. Belongs here: that comparison. Does not belong here: how the index is
built or asked (`derived/search/`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tantivy import Index, Query, Schema, Searcher

from contracts.errors import ComparisonError
from reconcile.compare import compare
from reconcile.lake_side import PartitionPosition, at_positions, fold, in_scope
from reconcile.own_positions import await_lake, findings, lag_seconds_max, load_parked, sides, wholly_if_set_back
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.parked import ParkedAggregate, overdue
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, BOOLEAN, VARCHAR, flag, number, text
from reconcile.view_positions import known_positions
from reconcile.view_tables import ViewTable, rows_of

NAME = "search"
ALL = 10_000_000
"""More documents than an index has: the engine needs a limit."""
BATCH = 5_000
ARROW = {VARCHAR: pa.string(), BIGINT: pa.int64(), BOOLEAN: pa.bool_()}

PRODUCTS = rows_of(
    "product",
    "product_id",
    "search_products",
    columns=(
        *text("merchant_id", "title", "kind", "tax_category", "brand", "body"),
        *flag("is_active"),
        *number("version", "directory_epoch"),
    ),
    expected="select * from {products}",
)
VARIANTS = rows_of(
    "product",
    "product_id",
    "search_variants",
    part=("variant_id",),
    columns=(*text("merchant_id", "sku", "title"), *flag("is_active"), *number("unit_price_micro")),
    expected="select *, aggregate_id as product_id from {variants}",
)
ATTRIBUTES = rows_of(
    "product",
    "product_id",
    "search_attributes",
    part=("name",),
    columns=text("merchant_id", "value"),
    expected="select *, aggregate_id as product_id from {product_attributes}",
)
MERCHANTS = rows_of(
    "merchant",
    "merchant_id",
    "search_merchants",
    columns=(
        *text("name", "currency", "jurisdiction"),
        *flag("is_active"),
        *number("version", "directory_epoch"),
    ),
    expected="select * from {merchants}",
)
SYNONYMS = rows_of(
    "merchant",
    "merchant_id",
    "search_synonyms",
    part=(
        "words",
        "means",
    ),
    columns=(),
    expected="select * from {merchant_synonyms}",
)
TABLES = (PRODUCTS, VARIANTS, ATTRIBUTES, MERCHANTS, SYNONYMS)


class Held(NamedTuple):
    """One commit of an index."""

    schema: Schema
    searcher: Searcher


def positions_in(folder: Path) -> list[PartitionPosition]:
    """Return the positions that an index holds."""
    return _positions(_open(folder))


def _open(folder: Path) -> Held:
    index = Index.open(str(folder))
    return Held(index.schema, index.searcher())


def _compare(run: PodRun) -> Findings:
    if run.context.search_index is None:
        raise ComparisonError("The search index cannot be looked at: this run was given no way to it.")
    folder = run.context.search_index(run.pod)
    held = None if folder is None else _open(folder)
    stored = [] if held is None else _positions(held)
    run = wholly_if_set_back(run, stored)
    parked = [] if held is None else _parked(held)
    for item in TABLES:
        _read(run, held, item)
    load_parked(run, parked)
    positions, beyond = known_positions(run, stored)
    await_lake(run, run.pod, NAME, positions)
    outcomes = [beyond, overdue(parked, run.context.now(), lag_seconds_max(NAME), run.context.limits)]
    extent = in_scope(run, at_positions(run.connection, run.pod, positions), f"{NAME}_events")
    for aggregate_type in dict.fromkeys(item.aggregate_type for item in TABLES):
        fold(run.connection, extent, aggregate_type)
        for item in (one for one in TABLES if one.aggregate_type == aggregate_type):
            left, right = sides(run, item, f"index_{item.name}")
            outcomes.append(compare(run.connection, item.shape, left, right, run.context.limits))
    return findings(run, NAME, positions, outcomes, parked)


def _read(run: PodRun, held: Held | None, item: ViewTable) -> None:
    """Read the stored rows of a kind into a scratch table; ids come from the documents' keys."""
    schema = pa.schema([(name, ARROW[item.shape.type_of(name)]) for name in item.shape.names])
    names = schema.names
    found = () if held is None else _PARTS[item.name](held) if item.name in _PARTS else _rows(held, item)

    def batches() -> Iterator[pa.RecordBatch]:
        batch: list[dict[str, Any]] = []
        for row in found:
            batch.append({name: row.get(name) for name in names})
            if len(batch) == BATCH:
                yield pa.RecordBatch.from_pylist(batch, schema)
                batch = []
        yield pa.RecordBatch.from_pylist(batch, schema)

    load(run.connection, f"all_{item.name}", pa.RecordBatchReader.from_batches(schema, batches()))
    scoped = run.in_scope(table(f"all_{item.name}"), item.id_column)
    run.connection.execute(f"create or replace table {table(f'index_{item.name}')} as select * from {scoped}")


def _rows(held: Held, item: ViewTable) -> Iterator[dict[str, Any]]:
    for key, row in _documents(held, item.aggregate_type):
        merchant_id, _, aggregate_id = key.split("/", 2)
        yield {**row, "merchant_id": merchant_id, item.id_column: aggregate_id}


def _variants(held: Held) -> Iterator[dict[str, Any]]:
    for product in _rows(held, PRODUCTS):
        for variant in product["variants"]:
            yield {**variant, "merchant_id": product["merchant_id"], "product_id": product["product_id"]}


def _attributes(held: Held) -> Iterator[dict[str, Any]]:
    for product in _rows(held, PRODUCTS):
        for name, value in product["attributes"].items():
            ids = {"merchant_id": product["merchant_id"], "product_id": product["product_id"]}
            yield {"name": name, "value": value, **ids}


def _synonyms(held: Held) -> Iterator[dict[str, Any]]:
    for merchant in _rows(held, MERCHANTS):
        for synonym in merchant.get("synonyms", ()):
            yield {**synonym, "merchant_id": merchant["merchant_id"]}


_PARTS = {VARIANTS.name: _variants, ATTRIBUTES.name: _attributes, SYNONYMS.name: _synonyms}
"""Table of what stands in other rows -> how it is read from an index."""


def _documents(held: Held, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, row in _stored(held, kind):
        try:
            found = json.loads(row)
        except ValueError:
            continue  # nobody can read the document: it is as good as missing
        if isinstance(found, dict):
            yield key, found


def _stored(held: Held, kind: str) -> Iterator[tuple[str, bytes]]:
    searcher = held.searcher
    query = Query.term_query(held.schema, "kind", kind, index_option="basic")
    for _, address in searcher.search(query, limit=min(ALL, max(searcher.num_docs, 1)), count=False).hits:
        document = searcher.doc(address)
        yield str(document.get_first("key")), bytes(document.get_first("row") or b"{}")


def _positions(held: Held) -> list[PartitionPosition]:
    rows: Sequence[Mapping[str, Any]] = [one for _, row in _stored(held, "#position") for one in json.loads(row)]
    return [
        PartitionPosition(partition=row["partition"], cut=row["cut"], chunk=row["chunk"])
        for row in sorted(rows, key=lambda row: int(row["partition"]))
    ]


def _parked(held: Held) -> list[ParkedAggregate]:
    events: dict[str, list[Mapping[str, Any]]] = {}
    for _, row in _stored(held, "#parked"):
        event = json.loads(row)
        events.setdefault(event["aggregate_key"], []).append(event)
    return [
        ParkedAggregate(
            key=key,
            events=len(waiting),
            parked_at=min(datetime.fromisoformat(one["parked_at"]) for one in waiting),
            error=min(waiting, key=lambda one: (one["cut"], one["position"]))["error"],
        )
        for key, waiting in sorted(events.items())
    ]


SEARCH_PAIR = Pair(
    name=f"lake_{NAME}",
    left="lake: the newest version of every product and merchant, as of the index's positions",
    right="search index: the stored rows of its documents",
    description=(
        "Every product with its variants, prices and attributes, and every merchant with its synonyms, as the index "
        "holds them."
    ),
    cannot_catch=(
        "Terms that were made wrongly of a right text, and the rank of a hit (`python -m bench.relevance` measures "
        "it); events that neither the lake nor the index has (the OLTP pairs find those)."
    ),
    copy=NAME,
    stage=Stage.OWN,
    shapes=tuple(item.shape for item in TABLES),
    compare=_compare,
)
