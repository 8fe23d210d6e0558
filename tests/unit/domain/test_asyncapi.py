"""docs/asyncapi.json is an AsyncAPI document by another hand's rules, and says what events are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import jsonschema
import pytest
from pydantic_asyncapi import AsyncAPI
from referencing import Registry, Resource

from contracts.events import AGGREGATES, STATE_TYPES
from contracts.events.examples import examples
from contracts.events.order import OrderState
from contracts.events.schema_files import schema_of
from docs.asyncapi import asyncapi_json

WHERE = "urn:asyncapi"


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_it_validates_and_every_reference_leads_somewhere() -> None:
    document = json.loads(asyncapi_json())
    model = AsyncAPI.model_validate(document)
    assert model.root.asyncapi == "3.0.0"
    resolver = Registry().with_resource(WHERE, Resource.opaque(document)).resolver(WHERE)
    found = set(references(document))
    assert len(found) > 50
    for reference in found:
        assert reference.startswith("#/")
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        assert at
    assert resolver is not None
    events = {event.value for kinds in AGGREGATES.values() for event in kinds}
    assert set(document["components"]["messages"]) == set(document["channels"]["events"]["messages"]) == events


@pytest.mark.parametrize("aggregate_type", STATE_TYPES)
def test_what_a_message_may_say_fits_its_schema(aggregate_type: str) -> None:
    document = json.loads(asyncapi_json())
    state = STATE_TYPES[aggregate_type]
    (event, *_) = AGGREGATES[state]
    payload = document["components"]["messages"][event.value]["payload"]
    validator = jsonschema.Draft202012Validator({**document, **payload})
    for number, example in enumerate(examples(schema_of(state))):
        validator.validate({"state": example, "changed": ["status"]})
        if number == 25:
            break
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"state": {**example, "surprise": 1}, "changed": []})


def test_a_version_that_is_retired_says_until_when_it_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderState, "RETIRED", {1: date(2027, 3, 31)})
    schema = json.loads(asyncapi_json())["components"]["schemas"]["order.v1"]
    assert schema["deprecated"] is True and "until 2027-03-31" in schema["description"]
