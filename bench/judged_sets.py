"""Reading a judged set: products with what they are searched by, and which of them answer a query how well.

`docs/search.md` describes both files for whoever brings a set. Belongs here: reading them, and saying in one sentence
what is wrong with one. Does not belong here: measuring (`bench/relevance.py`).
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from contracts.errors import InputError
from contracts.text import visible

COLUMNS = ("query", "grade", "items")
GRADE_MAX = 10

Judgements = Mapping[str, Mapping[str, int]]
"""Query -> item -> grade."""

Scalar = str | int | float | bool | None


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A product of a judged set."""

    id: str
    title: str
    brand: str = ""
    body: str = ""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """A product as a file may have it: fields that we do not know are passed over."""

    id: str | int
    title: str
    brand: str | None = None
    body: str | None = None
    attributes: dict[str, Scalar | list[Scalar]] | None = None


def read_products(path: Path) -> list[Product]:
    """Return the products of a file; InputError says which line is none."""
    found: dict[str, Product] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            product = _product(msgspec.json.decode(line, type=_Written))
        except msgspec.MsgspecError as error:
            raise InputError(f"{path}, line {number} is no product: {str(error).rstrip('.')}.") from None
        if not product.id or product.id.split() != [product.id]:
            raise InputError(f"{path}, line {number}: the id {visible(product.id)!r} is empty, or has a space in it.")
        if product.id in found:
            raise InputError(f"{path}, line {number}: the id {visible(product.id)!r} stands in an earlier line, too.")
        found[product.id] = product
    if not found:
        raise InputError(f"{path} has no products.")
    return list(found.values())


def read_judgements(path: Path) -> Judgements:
    """Return the judgements of a file; InputError says which line is none."""
    grades: defaultdict[str, dict[str, int]] = defaultdict(dict)
    rows = csv.DictReader(_lines(path), delimiter="\t")
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: its first line does not name the column {missing[0]!r}; tabs separate the columns.")
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        query, graded = _judged(row, place)
        if twice := grades[query].keys() & graded.keys():
            raise InputError(f"{place} judges {visible(min(twice))!r} again for {visible(query)!r}.")
        grades[query] |= graded
    if not grades:
        raise InputError(f"{path} has no judgements.")
    return grades


def _judged(row: Mapping[str, Any], place: str) -> tuple[str, dict[str, int]]:
    query, grade, items = (row[name] for name in COLUMNS)
    if not query or not query.strip():
        raise InputError(f"{place} has no query.")
    if grade is None or not grade.strip().isdecimal() or int(grade) > GRADE_MAX:
        raise InputError(f"{place}: the grade is {visible(str(grade))!r}; it is a whole number from 0 to {GRADE_MAX}.")
    if not items or not items.split():
        raise InputError(f"{place} names no items.")
    return query, dict.fromkeys(items.split(), int(grade))


def _product(written: _Written) -> Product:
    given = {name: value for name, value in (written.attributes or {}).items() if value not in (None, "", [])}
    return Product(
        id=str(written.id),
        title=written.title,
        brand=written.brand or "",
        body=written.body or "",
        attributes={name: _text(value) for name, value in given.items()},
    )


def _text(value: Scalar | list[Scalar]) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value if one is not None)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, unpacked if its name ends in .gz."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise InputError(f"{path}, line {number} is not UTF-8.") from None
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path} cannot be read: {reason}.") from None
