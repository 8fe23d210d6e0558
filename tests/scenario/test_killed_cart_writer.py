"""The writer of carts is killed again and again while shoppers shop: the pod gets every change, and none twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from contracts.carts import CartKey
from contracts.settings import Settings, as_values
from contracts.verdicts import Verdict
from oltp.carts.cart_requests import Carts
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.commands.execute import build_command_pod
from oltp.directory import migrate_directory
from oltp.domain.carts import quantities
from stack.composition.carts import cart_keepers
from stack.settings import ROOT
from tests import conftest
from tests.integration import oltp_pod

SKUS = ("MUG", "PEN", "PIN")
CARTS = 10
KILLS = 4
BOUND_SECONDS = 10.0
"""The stated time is a tenth of a second here; a machine that is busy gets a hundred times that."""


@contextmanager
def writer_of(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker as the supervisor does; killed at the end, as by a crash."""
    environment = {**os.environ, **as_values(settings), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "stack.upkeep.worker", "carts"]
    with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.mark.long
def test_killed_writers_lose_and_double_nothing(settings: Settings) -> None:
    chance = random.Random(conftest.SEED)
    settings = replace(settings, pods=settings.pods[:1], carts_url=settings.log_url, cart_write_ms=100)
    migrate_directory(settings.control_dsn)
    (pod_settings,) = settings.pods
    server = CartServer(settings.carts_url)
    with build_command_pod(pod_settings, control_dsn=settings.control_dsn) as pod:
        oltp_pod.register(pod)
        carts = Carts(valkey=ValkeyCarts(server, queued_max=1_000), pod_of=lambda _: pod)
        keys = [CartKey(merchant_id=oltp_pod.MERCHANT, cart_id=str(uuid.uuid4())) for _ in range(CARTS)]
        expected: dict[CartKey, dict[str, int]] = {key: {} for key in keys}
        for _ in range(KILLS):
            with writer_of(settings):
                until = time.monotonic() + chance.uniform(2.0, 4.0)
                while time.monotonic() < until:
                    shop(carts, chance, expected)
        assert {key: quantities(carts.view(key).cart) for key in keys} == expected
        with writer_of(settings):
            deadline = time.monotonic() + BOUND_SECONDS
            while carts.valkey.waiting(pod.pod)[0]:
                assert time.monotonic() < deadline, "the last writer must write what waits"
                time.sleep(0.05)
        with cart_keepers(settings) as (keeper,):
            assert {key: quantities(cart) for key in keys if (cart := keeper.durable.load(key))} == {
                key: units for key, units in expected.items() if units
            }
            assert keeper.compare().verdict is Verdict.CONSISTENT
    server.close()


def shop(carts: Carts, chance: random.Random, expected: dict[CartKey, dict[str, int]]) -> None:
    """Change a cart, and the plain numbers beside it."""
    key, sku, units = chance.choice(list(expected)), chance.choice(SKUS), chance.randint(0, 5)
    if units and chance.random() < 0.7:
        carts.add(key, "phone", sku, units)
        expected[key][sku] = expected[key].get(sku, 0) + units
    else:
        carts.set_quantity(key, "laptop", sku, units)
        expected[key][sku] = units
    expected[key] = {name: number for name, number in sorted(expected[key].items()) if number}
