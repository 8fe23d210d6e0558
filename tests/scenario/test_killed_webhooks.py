"""The worker of webhooks is killed again and again while merchants sell: nothing is lost, doubles have one id."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from api.webhooks.store import Wanted
from contracts.settings import Settings, as_values
from contracts.verdicts import Verdict
from contracts.webhooks import EVENT_TYPES
from reconcile.comparison_run import run_pairs
from stack.composition.comparison import build_reconcile_context
from stack.composition.migrations import migrate_everything
from stack.composition.webhook_sending import PAIR
from stack.composition.webhooks import endpoint_store
from stack.settings import ROOT
from tests import conftest
from tests.integration.reconcile_world import carrying, open_shops, propagate
from tests.webhook_receiver import Receiver, receiver

KILLS = 5


@contextmanager
def worker_of(settings: Settings) -> Iterator[None]:
    """Run the worker as the supervisor does; killed at the end, as by a crash."""
    environment = {**os.environ, **as_values(settings), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "stack.upkeep.worker", "consumer", "--projection", "webhooks"]
    with subprocess.Popen([*command, "--pod", "pod1"], env=environment, cwd=ROOT) as process:
        yield
        process.kill()


def waiting(settings: Settings) -> int:
    with psycopg.connect(settings.control_dsn) as connection:
        rows = connection.execute("select count(*) from webhooks.deliveries where state = 'waiting'").fetchall()
    return int(rows[0][0])


def slow_at_times(hook: Receiver, chance: random.Random) -> None:
    def answer(_: object) -> int:
        time.sleep(chance.uniform(0.0, 0.2))
        return 503 if chance.random() < 0.1 else 204

    hook.answers["/hook"] = answer


@pytest.mark.long
def test_killed_workers_lose_nothing(settings: Settings) -> None:
    chance = random.Random(conftest.SEED)
    settings = replace(settings, webhook_open_hosts=("127.0.0.1",))
    migrate_everything(settings)
    pod = settings.pods[0]
    with endpoint_store(settings) as store, open_shops(settings) as (shop, _), receiver() as hook:
        propagate(settings, pod, ("lake", "webhooks"))
        wanted = Wanted(url=hook.url(), event_types=EVENT_TYPES)
        store.register(shop.merchant_id, wanted, idempotency_key="hook")
        slow_at_times(hook, chance)
        for _ in range(KILLS):
            with worker_of(settings):
                until = time.monotonic() + chance.uniform(3.0, 6.0)
                while time.monotonic() < until:
                    shop.refunded()
                    propagate(settings, pod, ("lake",))
        hook.answers.clear()
        propagate(settings, pod, ("lake", "webhooks"))
        with worker_of(settings):
            hook.wait(lambda: not waiting(settings), 120)
        context = carrying(build_reconcile_context(settings, lag_seconds_max=10), settings, ("lake", "webhooks"))
        (result,) = run_pairs(context, [PAIR], ["pod1"])
        assert result.verdict is Verdict.CONSISTENT
        with psycopg.connect(settings.control_dsn) as connection:
            noted = connection.execute("select event_id, body from webhooks.deliveries").fetchall()
        assert noted and {row[0] for row in noted} == {one.message_id for one in hook.taken}
        # A double is the same message, byte for byte.
        assert len({(one.message_id, one.body) for one in hook.taken}) == len(noted)
