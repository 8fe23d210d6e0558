"""Repairs of what serves shoppers and owns no facts: carts are merged, answers of the cache are dropped.

Both may be repeated: a merge of what is merged changes nothing, and an answer that is gone is loaded by the next
reader. Belongs here: doing it, and reading the store for the audit. Does not belong here: which break needs it
(`repair/copies/cart.py`, `repair/copies/answer_cache.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from contracts.carts import CartKey
from contracts.ids import aggregate_key
from contracts.settings import Settings
from derived.answer_cache.caches import cache_at
from derived.answer_cache.port import AnswerCache, AnswerKey
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.carts.writer import writer_of
from oltp.commands.execute import build_command_pod
from repair.values import Action
from streams.step_planning import floor_cut

ANSWER_SECONDS = 10.0
MERGES = 2
"""What the pod had more goes back to Valkey in the first round, and leaves the queue in the second."""


def carts_of(settings: Settings, action: Action) -> dict[str, Any]:
    """Return how many of an action's carts Valkey has, and how many of them wait to be written."""
    with _carts(settings) as carts:
        keys = _cart_keys(action)
        return {"carts_in_valkey": len(carts.states(keys)), "waiting": len(carts.waiting_of(action.pod, keys))}


def merge_carts(settings: Settings, action: Action) -> int:
    """Merge an action's carts both ways, as every change is; return how many Valkey had."""
    with _carts(settings) as carts, build_command_pod(settings.pod(action.pod), connections_max=2) as pod:
        queued = sum(carts.queue(key, action.pod) for key in _cart_keys(action))
        for _ in range(MERGES if queued else 0):
            writer_of(settings, pod, carts).write_waiting()
    return queued


def answers_of(settings: Settings, action: Action) -> dict[str, Any]:
    """Return how many answers the cache has about an action's aggregates, and up to which cut it has followed."""
    with closing(cache_at(settings.cache_url, answer_seconds=ANSWER_SECONDS)) as cache:
        following = cache.following(action.pod)
        return {
            "answers": sum(1 for _ in _answers(cache, action)),
            "followed_to_cut": None if following is None else floor_cut(following.positions),
        }


def drop_answers(settings: Settings, action: Action) -> int:
    """Drop the answers about an action's aggregates; without any, let the cache begin anew, so that all are dropped."""
    with closing(cache_at(settings.cache_url, answer_seconds=ANSWER_SECONDS)) as cache:
        if not action.keys:
            return int(cache.forget(action.pod))
        return cache.drop(list(_answers(cache, action)))


@contextmanager
def _carts(settings: Settings) -> Iterator[ValkeyCarts]:
    with closing(CartServer(settings.carts_url)) as server:
        yield ValkeyCarts(server, queued_max=settings.carts_queued_max)


def _cart_keys(action: Action) -> list[CartKey]:
    parts = (key.split("/", 2) for key in action.keys)
    return [CartKey(merchant_id=merchant_id, cart_id=cart_id) for merchant_id, _, cart_id in parts]


def _answers(cache: AnswerCache, action: Action) -> Iterator[AnswerKey]:
    """Yield the answers about an action's aggregates, about a merchant all that it has; all without aggregates."""
    wanted = frozenset(action.keys)
    for key in cache.keys(action.pod):
        merchant = aggregate_key(key.merchant_id, "merchant", key.merchant_id)
        if not wanted or merchant in wanted or aggregate_key(key.merchant_id, "product", key.subject) in wanted:
            yield key
