from __future__ import annotations

from contextlib import closing

import redis

from bench.world import trade
from contracts.settings import Settings
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.looking.headroom import log_memory
from stack.upkeep.log_room import make_room
from streams.draining import drain_pod
from streams.logs import build_log
from traffic.generator import place_orders


def test_applied_entries_go_at_once_when_the_log_is_nearly_full_and_not_before(settings: Settings) -> None:
    migrate_everything(settings)
    trade(settings, orders=4, seed=5, processes=0)
    assert make_room(settings) == 0, "the machine's memory is the limit, and there is enough"
    with redis.Redis.from_url(settings.log_url) as server, closing(build_log(settings)) as log:
        place_orders(settings, orders=4, seed=6, processes=0)
        drain_everything(settings)
        place_orders(settings, orders=4, seed=7, processes=0)
        unread = {pod.pod: drain_pod(pod, settings).cut for pod in settings.pods}
        server.config_set("maxmemory", int(server.info("memory")["used_memory"] * 1.1))
        try:
            assert log_memory(settings).is_near
            assert make_room(settings) > 0
            assert make_room(settings) == 0, "what a copy has not read stays"
        finally:
            server.config_set("maxmemory", 0)
        for pod, cut in unread.items():
            assert log.tail(pod, settings.partition_count).manifest_cut == cut
            assert [one.cut for one in log.manifests(pod, cut - 1, limit=10)] == [cut]
