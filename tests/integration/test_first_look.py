"""Witnesses that look before the first worker writes have missed nothing; others say that they were blind."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from contracts.settings import Settings
from contracts.sightings import KeptSighting, SightingKind
from reconcile.sightings import newest_sightings
from reconcile.witness_states import witness_states
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.witnessing import begin_watching, build_witnesses
from stack.servers import bootstrap
from tests.conftest import Cluster
from tests.integration.reconcile_world import open_shops


@pytest.fixture
def watched(settings: Settings, postgres: Cluster) -> Settings:
    """A migrated system without any data, whose witnesses have all their roles."""
    database = str(psycopg.conninfo.conninfo_to_dict(settings.read_models_dsn)["dbname"])
    bootstrap.allow_connections(postgres.superuser_dsn(), database, (bootstrap.WITNESS_ROLE,))
    found = replace(settings, read_models_witness_dsn=postgres.dsn(bootstrap.WITNESS_ROLE, database))
    migrate_everything(found)
    return found


def trade(settings: Settings) -> None:
    with open_shops(settings) as shops:
        for shop in shops:
            shop.paid()
    drain_everything(settings)


def seen(settings: Settings) -> list[KeptSighting]:
    for witness in build_witnesses(settings):
        assert witness.look_once().trouble == ""
        witness.close()
    return newest_sightings(settings.control_dsn)


def test_a_system_that_begins_with_its_witnesses_has_nothing_that_nobody_saw(watched: Settings) -> None:
    begin_watching(watched)
    before = {(one.witness, one.pod): one.position for one in witness_states(watched.control_dsn)}
    of_pods = [(name, pod) for name in ("log", "oltp") for pod in ("pod1", "pod2")]
    assert set(before) == {*of_pods, ("lake", ""), ("read_models", "")} and all(before.values())
    trade(watched)
    begin_watching(watched)
    after = {(one.witness, one.pod): one.position for one in witness_states(watched.control_dsn)}
    # The indexes were not there before; their first state is the one that is known.
    assert {**after, **before} == after and {name for name, _ in set(after) - set(before)} == {"search"}
    assert seen(watched) == []


def test_witnesses_that_come_after_the_first_writes_say_so(watched: Settings) -> None:
    trade(watched)
    begin_watching(watched)
    assert {(one.witness, one.kind) for one in seen(watched)} >= {
        ("oltp", SightingKind.BLIND),
        ("lake", SightingKind.BLIND),
        ("read_models", SightingKind.BLIND),
    }


def test_a_witness_that_cannot_look_stops_nobody(watched: Settings) -> None:
    lost = replace(watched, catalog_dsn="host=127.0.0.1 port=1 dbname=none connect_timeout=2", catalog_reader_dsn="")
    begin_watching(lost)
    assert {one.witness for one in witness_states(watched.control_dsn) if one.position} == {
        "log",
        "oltp",
        "read_models",
    }
