"""Relay and consumer processes killed without warning, again and again, under writes: everything arrives once."""

from __future__ import annotations

import multiprocessing
import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess

import psycopg

from contracts.waiting import comes_true
from streams.valkey_log import ValkeyLog
from tests.scenario import relay_processes
from tests.streams_support import Recorder, create_outbox, insert_event

KILLS = 2
ROUNDS = 40


def start(body: Callable[[str, str], None], dsn: str, log_url: str) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=body, args=(dsn, log_url))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()
    process.close()


def has_applied(recorder: Recorder, goal: int) -> bool:
    return len(recorder.applied()) >= goal


def test_killed_processes_lose_and_repeat_nothing(
    make_database: Callable[..., str], valkey_url: str, rng: random.Random
) -> None:
    dsn = create_outbox(make_database("tieout_relay"))
    recorder = Recorder(make_database())
    log = ValkeyLog(valkey_url)
    events: list[str] = []
    with psycopg.connect(dsn) as connection:
        for life in range(KILLS + 1):
            relay = start(relay_processes.relay, dsn, valkey_url)
            consumer = start(relay_processes.consume, recorder.dsn, valkey_url)
            applied = len(recorder.applied())
            for number in range(ROUNDS):
                events += [insert_event(connection, f"a{thing}", life * ROUNDS + number + 1) for thing in range(5)]
                connection.commit()
            # Killed while it works: once it has got anywhere, at a random distance from its goal.
            goal = len(events) if life == KILLS else rng.randrange(applied + 1, len(events))
            assert comes_true(partial(has_applied, recorder, goal), seconds=60), "nothing arrives"
            kill(relay)
            kill(consumer)
    versions: dict[str, list[int]] = defaultdict(list)
    for _, _, aggregate, version, _ in recorder.applied():
        versions[aggregate].append(version)
    assert versions == {f"a{thing}": list(range(1, ROUNDS * (KILLS + 1) + 1)) for thing in range(5)}
    assert sorted(row[4] for row in recorder.applied()) == sorted(events)
    log.close()
