"""Examples of what may be stored under a committed schema: every field with every kind of value it may have.

An upcaster must work for every stored state, but a test cannot read them all; it uses these examples instead. Each
example differs from a plain example in one field, so a state with many fields has hundreds of examples, not millions.

Belongs here: making examples from a JSON Schema as msgspec writes it, pure. Does not belong here: what is done with
them (`compatibility.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

EXACT = 9_007_199_254_740_993
"""2**53 + 1: no floating-point number has this value, so code that loses precision changes it."""
TEXTS = ("Example 1", "a", "a-b/c d.e:f_g,h", "Ä 1", "")
LONG = 100
UUIDS = ("019a5c9e-0000-7000-8000-000000000001", "019a5c9e-0000-7000-8000-00000000000f")
MOMENTS = ("2026-11-29T12:34:56.789012Z", "2024-02-29T23:59:59Z")


def examples(schema: Schema) -> Iterator[dict[str, Any]]:
    """Yield states that the schema allows."""
    yield from values_of(schema, schema.get("$defs", {}))


def values_of(schema: Schema, defs: Schema) -> list[Any]:
    """Return values that a schema allows, the simplest first."""
    if "$ref" in schema:
        return values_of(defs[str(schema["$ref"]).rpartition("/")[2]], defs)
    if "enum" in schema:
        return list(schema["enum"])
    if "anyOf" in schema:
        return [value for one in schema["anyOf"] for value in values_of(one, defs)]
    match schema.get("type"):
        case "object":
            return list(_objects(schema, defs))
        case "array":
            return list(_arrays(schema, defs))
        case "integer":
            return _integers(schema)
        case "string":
            return _texts(schema)
        case "boolean":
            return [True, False]
    return [None]


def _objects(schema: Schema, defs: Schema) -> Iterator[dict[str, Any]]:
    choices = {name: values_of(one, defs) for name, one in schema.get("properties", {}).items()}
    plain = {name: values[0] for name, values in choices.items()}
    yield plain
    for name, values in choices.items():
        yield from ({**plain, name: value} for value in values[1:])
        if name not in schema.get("required", ()):
            yield {other: value for other, value in plain.items() if other != name}


def _arrays(schema: Schema, defs: Schema) -> Iterator[list[Any]]:
    items = values_of(schema.get("items", {}), defs)
    fewest = int(schema.get("minItems", 0))
    yield items[:1] * max(fewest, 1)
    if fewest == 0:
        yield []
    most = schema.get("maxItems")
    yield items if most is None else items[: int(most)]


def _integers(schema: Schema) -> list[int]:
    least, most = schema.get("minimum"), schema.get("maximum")
    wanted = [1, EXACT, -EXACT, 0, *(limit for limit in (least, most) if limit is not None)]
    kept = [max(value, least) if least is not None else value for value in wanted]
    return list(dict.fromkeys(min(value, most) if most is not None else value for value in kept))


def _texts(schema: Schema) -> list[str]:
    if schema.get("format") == "uuid":
        return list(UUIDS)
    if schema.get("format") == "date-time":
        return list(MOMENTS)
    shortest, longest = int(schema.get("minLength", 0)), int(schema.get("maxLength", LONG))
    found = [text[:longest] for text in (*TEXTS, "x" * longest)]
    return list(dict.fromkeys(text for text in found if len(text) >= shortest)) or ["x" * shortest]
