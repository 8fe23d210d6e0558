"""Conversion of a shop's rows or JSON to an order of the format. The mapping gives names and values, the format types.

Belongs here: assembling one order, pure. Does not belong here: which rows form an order (`reading.py`), booking it
(`rehearsal.py`).

A CSV row may contain several parts of an order; a part exists when at least one of its cells is filled. Exports repeat
parts on several rows, so an equal order, payment, discount, refund, cancellation or shipment counts once. An order line
counts once per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from contracts.text import visible
from traffic.orders.format import LISTS, PARTS, OrderRecord
from traffic.orders.mapping import Mapping as OrderMapping
from traffic.orders.mapping import RejectedError, plain_path

Document = dict[str, Any]

_UNITS = {part: f"{part}_line" for part in ("refund", "cancellation", "fulfillment")}


def order_of(document: Document) -> OrderRecord:
    """Return the typed order; RejectedError when a field is missing, unknown or of a wrong type."""
    try:
        return msgspec.convert(document, OrderRecord, strict=False)
    except msgspec.ValidationError as error:
        sentence = str(error)
        reason = "field_missing" if "missing required" in sentence else "field_not_readable"
        reason = "field_unknown" if "unknown field" in sentence else reason
        raise RejectedError(reason, visible(sentence)) from None


def of_rows(rows: Iterable[Mapping[str, str]], mapping: OrderMapping) -> Document:
    """Return the document for CSV rows (keys: the format's paths); RejectedError when rows contradict each other."""
    document: Document = {}
    for row in rows:
        parts = _parts(row, mapping)
        _take_order(document, parts.pop("", {}))
        if line := parts.pop("line", None):
            line["taxes"] = [parts[name] for name in sorted(parts) if name.startswith("tax")]
            document.setdefault("lines", []).append(line)
        elif any(name.startswith("tax") for name in parts):
            raise RejectedError("tax_without_line", "a row has a tax and no line that it is on")
        for part in ("discount", "payment", "refund", "cancellation", "fulfillment"):
            if found := parts.get(part):
                _take_part(document, part, found, parts.get(_UNITS.get(part, "")))
            elif _UNITS.get(part, "") in parts:
                raise RejectedError("line_without_its_part", f"a row has a {part}_line and no {part}")
    return _with_constants(document, mapping)


def of_json(given: Any, mapping: OrderMapping) -> Document:
    """Return the document for a JSON object; RejectedError for another JSON value or for unknown names."""
    if not isinstance(given, dict):
        raise RejectedError("not_an_object", "each line must be one JSON object")
    return _with_constants(_part_of_json({k: v for k, v in given.items() if k != "reject"}, "", mapping), mapping)


def json_key(given: Any, mapping: OrderMapping) -> tuple[str, str]:
    """Return (merchant, order number) of a JSON object, as far as readable; ("", "") when the number is unreadable."""
    merchant_id, number = (
        str(mapping.value(name, _at(given, mapping.columns.get(name, name))) or mapping.constants.get(name, ""))
        for name in ("merchant_id", "order_number")
    )
    return (merchant_id, number) if number else ("", "")


def _parts(row: Mapping[str, str], mapping: OrderMapping) -> dict[str, Document]:
    parts: dict[str, Document] = {}
    for path, text in row.items():
        value = mapping.value(path, text)
        if value is not None:
            part, _, name = path.rpartition(".")
            parts.setdefault(part, {})[name] = value
    return parts


def _take_order(document: Document, fields: Document) -> None:
    for name, value in fields.items():
        if document.setdefault(name, value) != value:
            raise RejectedError(
                "rows_contradict_each_other", f"{name} is '{visible(str(document[name]))}' and '{visible(str(value))}'"
            )


def _take_part(document: Document, part: str, found: Document, units: Document | None) -> None:
    """Add a part once, even if several rows repeat it; add the units of every row to it."""
    known = document.setdefault(f"{part}s", [])
    same = next((one for one in known if {k: v for k, v in one.items() if k != "lines"} == found), None)
    if same is None:
        same = dict(found)
        known.append(same)
    if units:
        same.setdefault("lines", []).append(units)


def _part_of_json(given: Document, part: str, mapping: OrderMapping) -> Document:
    prefix = f"{part}." if part else ""
    lists = LISTS.get(part, {})
    document: Document = {}
    used: set[str] = set()
    for name in PARTS[part].__struct_fields__:
        theirs = mapping.columns.get(prefix + name, name)
        found = _at(given, theirs)
        if found is None and theirs not in given:
            continue
        used.add(theirs.partition(".")[0])
        value = _list(found, lists[name], mapping) if name in lists else mapping.value(prefix + name, found)
        if value is not None:
            document[name] = value
    unknown = [] if "*" in mapping.ignored else sorted(given.keys() - used - set(mapping.ignored))
    if unknown:
        where = f"a {part} has" if part else "the order has"
        raise RejectedError("field_unknown", f"{where} {', '.join(visible(name) for name in unknown)}")
    return document


def _at(given: Any, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    if isinstance(given, dict) and path in given:
        return given[path]
    found: Any = given
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _list(found: Any, part: str, mapping: OrderMapping) -> list[Document]:
    if found is None:
        return []
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(one, dict) for one in found):
        raise RejectedError("field_not_readable", f"the list of {part} is no list of JSON objects")
    return [_part_of_json(one, part, mapping) for one in found]


def _with_constants(document: Document, mapping: OrderMapping) -> Document:
    for path, constant in mapping.constants.items():
        part, _, name = plain_path(path).rpartition(".")
        value = mapping.value(path, constant)
        for one in _all(document, part):
            one.setdefault(name, value)
    return document


def _all(document: Document, part: str) -> list[Document]:
    """Return all parts of one kind in the document."""
    if not part:
        return [document]
    for owner, lists in LISTS.items():
        for name, kind in lists.items():
            if kind == part:
                return [one for parent in _all(document, owner) for one in parent.get(name, [])]
    return []
