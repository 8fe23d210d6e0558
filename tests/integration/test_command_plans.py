"""Plans that commands make of empty tables, and keep: a row is found by its id, never among all of its merchant's."""

from __future__ import annotations

import re

import psycopg
import pytest

from contracts.settings import PodSettings
from oltp.commands.execute import _PLANNING
from oltp.store.mapping import MAPPINGS, AggregateMapping


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=lambda mapping: mapping.table.name)
def test_an_aggregate_is_found_by_its_id(settings_of_pod: PodSettings, mapping: AggregateMapping) -> None:
    statements = [mapping.lock(mapping.id_field), mapping.select(mapping.id_field), mapping.update]
    with psycopg.connect(settings_of_pod.owner_dsn, options=_PLANNING) as connection:
        for statement in statements:
            first, *others = statement.decode().split("%s")
            text = first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
            plan = "\n".join(row[0] for row in connection.execute(f"explain (generic_plan) {text}".encode()).fetchall())
            assert f"using {mapping.table.name}_pkey on {mapping.table.name}" in plan, plan


def test_an_event_finds_its_root_by_its_id(settings_of_pod: PodSettings) -> None:
    with psycopg.connect(settings_of_pod.reader_dsn) as connection:
        ((body,),) = connection.execute("select prosrc from pg_proc where proname = 'outbox_follows_root'").fetchall()
    queries = re.findall(r"select case when merchant_id = .*?;", body, re.DOTALL)
    assert len(queries) == len(MAPPINGS)
    assert all(re.search(r"where \w+ = new\.aggregate_id(::uuid)?;", query) for query in queries)
