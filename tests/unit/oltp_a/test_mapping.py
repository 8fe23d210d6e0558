"""Tables carry the names of the event states' fields: every field has a column or a table of parts."""

from __future__ import annotations

import pytest

from contracts.events import AGGREGATES
from contracts.events.common import AggregateState
from oltp.store.mapping import MAPPINGS

SEPARATE = {"prices": {"currency", "product_id"}, "order_tax_lines": set[str]()}
"""Columns of child tables that stand in no part: the caller adds them, or they are the root's."""


def test_every_aggregate_is_mapped() -> None:
    assert set(MAPPINGS) == set(AGGREGATES)


@pytest.mark.parametrize("state_type", list(AGGREGATES), ids=lambda state_type: state_type.AGGREGATE_TYPE)
def test_every_field_has_its_column(state_type: type[AggregateState]) -> None:
    mapping = MAPPINGS[state_type]
    lists = {child.field for child in mapping.children}
    assert set(mapping.table.columns.keys()) == set(state_type.__struct_fields__) - lists
    assert [column.name for column in mapping.table.primary_key] == [state_type.ID_FIELD]


@pytest.mark.parametrize("state_type", list(AGGREGATES), ids=lambda state_type: state_type.AGGREGATE_TYPE)
def test_every_part_has_its_columns(state_type: type[AggregateState]) -> None:
    for child in MAPPINGS[state_type].children:
        fields = set(child.value_type.__struct_fields__)
        columns = {name for table in child.tables for name in table.columns}
        assert fields <= columns
        added = {name for table in child.tables for name in SEPARATE.get(table.table.name, ())}
        assert columns - fields <= {state_type.ID_FIELD, "merchant_id"} | added
        for table in child.tables:
            assert {table.root_id, "merchant_id"} <= set(table.columns)
            # What names a part in its aggregate is the key of each of its tables, the aggregate's own id apart.
            key = {column.name for column in table.table.primary_key} - {state_type.ID_FIELD}
            assert key - {"currency"} == set(child.key)
