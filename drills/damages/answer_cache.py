"""Damages of the cache: answers forged or put back under a cut that is good, floors lowered or lost.

That answers or all of the cache are lost is no damage: it is allowed to forget. Belongs here: these damages and their
required outcomes. Does not belong here: the drills (`drills/copies/answer_cache.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.assembled import variant_tag
from contracts.ids import uuid7
from contracts.verdicts import DifferenceClass as Class
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.reading import AnswerReader
from derived.answer_cache.valkey_cache import ValkeyAnswerCache, client_of, floors_key, value_key
from drills.damages.place import WHOLE, Cell, Damage, Harm, Place, Target, harm, until
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.reads.product_page import read_product_page
from repair.values import ActionKind
from streams.step_planning import floor_cut

NAME = "answer_cache"
ANSWER_SECONDS = 10.0
LOCATION = "damages"
EPOCH = "select directory_epoch from oltp.residents where merchant_id = %s"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A product's page in the cache, with what is needed to change it, rightly or wrongly."""

    place: Place
    target: Target
    server: Any
    cache: ValkeyAnswerCache
    reader: AnswerReader
    connection: psycopg.Connection[Any]
    name: str
    """Of the key that holds the page."""
    variant_id: str

    def receive(self) -> None:
        """Receive stock of the product as a merchant does, and wait until the cache knows of it."""
        with build_command_pod(self.place.settings.pod(self.place.pod), connections_max=2) as pod:
            lines = [StockInput(variant_id=self.variant_id, quantity=1)]
            command = ReceiveStock(
                merchant_id=self.target.merchant_id, location_id=LOCATION, lines=lines, reason="damage"
            )
            execute(pod, command, idempotency_key=f"damage/{uuid7()}")
        wanted = self.place.tools.newest_cut(self.place.pod)
        until(lambda: self.followed_cut() >= wanted, f"The cache at cut {wanted}")

    def followed_cut(self) -> int:
        """Return the cut up to which the cache has followed the pod; 0 when it follows nothing."""
        following = self.cache.following(self.place.pod)
        return 0 if following is None else floor_cut(following.positions)

    def body(self) -> bytes:
        """Return the page in the cache."""
        body = self.server.hget(self.name, "bytes")
        assert isinstance(body, bytes)
        return body


@contextmanager
def shelf(place: Place) -> Iterator[Shelf]:
    """Open a product of goods, and have its page in the cache."""
    settings = place.settings
    with ExitStack() as stack:
        server = stack.enter_context(client_of(settings.cache_url))
        cache = ValkeyAnswerCache(settings.cache_url, answer_seconds=ANSWER_SECONDS)
        stack.callback(cache.close)
        reader = AnswerReader(cache)
        stack.callback(reader.close)
        connection = stack.enter_context(psycopg.connect(settings.pod(place.pod).reader_dsn, autocommit=True))
        until(lambda: cache.following(place.pod) is not None, "The cache that follows the log")
        while True:
            target = place.take("product")
            ((epoch,),) = connection.execute(EPOCH, [target.merchant_id]).fetchall()
            key = PRODUCT_PAGE.key(place.pod, target.merchant_id, epoch, target.aggregate_id)
            page = json.loads(_filled(reader, connection, key, epoch) or b"{}")
            if page.get("kind") == "goods" and page["variants"]:
                break
        yield Shelf(
            place=place,
            target=target,
            server=server,
            cache=cache,
            reader=reader,
            connection=connection,
            name=value_key(key),
            variant_id=page["variants"][0]["variant_id"],
        )


def _filled(reader: AnswerReader, connection: psycopg.Connection[Any], key: Any, epoch: int) -> bytes | None:
    def load() -> Any:
        return read_product_page(connection, key.merchant_id, key.subject, directory_epoch=epoch)

    reader.read(PRODUCT_PAGE, key, load)
    return reader.read(PRODUCT_PAGE, key, load).body


def forge_answer(place: Place) -> Harm:
    """Change a price in an answer, and let it look as it was filled."""
    with shelf(place) as page:
        said = json.loads(page.body())
        said["variants"][0]["unit_price_micro"] = (said["variants"][0]["unit_price_micro"] or 0) + 1
        page.server.hset(page.name, "bytes", json.dumps(said, separators=(",", ":")))
        return harm(page.target)


def put_back(place: Place) -> Harm:
    """Put an old answer back, under the cut of a new one."""
    with shelf(place) as page:
        old = page.body()
        page.receive()
        until(lambda: _is_filled_again(page), "A page that is good")
        page.server.hset(page.name, "bytes", old)
        return harm(page.target)


def _is_filled_again(page: Shelf) -> bool:
    """Load the page anew, and return whether the cache has it at a cut that is good."""
    ((epoch,),) = page.connection.execute(EPOCH, [page.target.merchant_id]).fetchall()
    key = PRODUCT_PAGE.key(page.place.pod, page.target.merchant_id, epoch, page.target.aggregate_id)
    _filled(page.reader, page.connection, key, epoch)
    looked = page.cache.look(key)
    return looked is not None and looked.standing == "fresh"


def of_floor(change: str) -> Damage:
    """Return the damage to the floor of a tag that was just touched: `lower` it, or `lose` it."""

    def do(place: Place) -> Harm:
        with shelf(place) as page:
            page.receive()
            floors, tag = floors_key(place.pod), variant_tag(page.variant_id)
            if change == "lose":
                page.server.zrem(floors, tag)
            else:
                page.server.zincrby(floors, -1, tag)
        return WHOLE

    return do


DROP = (ActionKind.DROP_ANSWERS,)


def _answer(damage: str, do: Damage) -> Cell:
    # Trade may touch the product before anybody has compared, and so drop the answer.
    named = {f"oltp_{NAME}": frozenset({Class.DIFFERENT})}
    return Cell(damage=damage, store=NAME, do=do, named=named, actions=DROP, may_mend_itself=True)


def _floor(damage: str, change: str, kind: Class, *, pod: int) -> Cell:
    named = {"lake_floors": frozenset({kind})}
    return Cell(
        damage=damage, store=NAME, do=of_floor(change), named=named, actions=DROP, may_mend_itself=True, pod=pod
    )


CELLS = {
    "carts and cache": (
        _answer("price in an answer forged", forge_answer),
        _answer("old answer put back under a new cut", put_back),
        _floor("floor lowered", "lower", Class.STALE, pod=0),
        _floor("floor lost", "lose", Class.MISSING, pod=1),
    ),
}
"""The cells by round."""
