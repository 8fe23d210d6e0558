"""Damages of carts: Valkey behind the pod, the pod behind Valkey, a state lost, forged or unreadable.

They are made as a stranger would, past the carts' code, on carts that no shopper has. Belongs here: these damages and
their required outcomes. Does not belong here: the drills (`drills/copies/cart.py`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from contracts.carts import CartKey
from contracts.verdicts import DifferenceClass as Class
from drills.damages.place import Cell, Damage, Harm, Place, Target, harm
from oltp.carts.cart_requests import Carts
from oltp.carts.valkey_carts import KEY, ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.carts.writer import writer_of
from oltp.commands.execute import CommandPod, build_command_pod
from repair.copies.cart import NOT_BY_MERGE
from repair.values import ActionKind

NAME = "cart"
MERCHANT = "select merchant_id from oltp.residents order by merchant_id limit 1"
AHEAD = 5

State = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Basket:
    """A cart of the pod with what is needed to change it, rightly or wrongly."""

    place: Place
    key: CartKey
    server: CartServer
    carts: Carts
    pod: CommandPod

    def add(self, sku: str) -> None:
        """Add a unit as a shopper does, and wait until both stores have it."""
        self.carts.add(self.key, "phone", sku, 1)
        self.settle()

    def empty(self) -> None:
        """Take everything out as a shopper does, and wait until both stores have it."""
        self.carts.remove(self.key, "phone", "MUG")
        self.settle()

    def settle(self) -> None:
        """Write what waits, as the worker does."""
        for _ in range(2):
            writer_of(self.place.settings, self.pod, self.carts.valkey).write_waiting()

    def state(self) -> bytes:
        """Return the state in Valkey."""
        return self.carts.valkey.states([self.key])[self.key]

    def forge(self, state: bytes) -> None:
        """Put a state into Valkey, past all rules."""
        self.server.client.hset(KEY + self.key.text, "state", state)


@contextmanager
def basket(place: Place, key: CartKey | None = None) -> Iterator[Basket]:
    """Open a cart of the place, a new one by default."""
    settings = place.settings
    with place.oltp() as connection:
        ((merchant_id,),) = connection.execute(MERCHANT).fetchall()
    with closing(CartServer(settings.carts_url)) as server, build_command_pod(settings.pod(place.pod)) as pod:
        valkey = ValkeyCarts(server, queued_max=settings.carts_queued_max)
        carts = Carts(valkey=valkey, pod_of=lambda _: pod, age_days=settings.cart_age_days)
        chosen = key or CartKey(merchant_id=merchant_id, cart_id=str(uuid.uuid4()))
        yield Basket(place=place, key=chosen, server=server, carts=carts, pod=pod)


def of_cart(damage: Callable[[Basket], None]) -> Damage:
    """Return a damage to a new cart with one mug in it."""

    def do(place: Place) -> Harm:
        with basket(place) as opened:
            opened.add("MUG")
            damage(opened)
            return _harm(opened.key)

    return do


def _harm(key: CartKey) -> Harm:
    target = Target(kind=NAME, merchant_id=key.merchant_id, aggregate_id=key.cart_id, traits=frozenset())
    return harm(target, note=key)


def set_valkey_back(cart: Basket) -> None:
    """Put an older state back into Valkey, as a server does that was restored from a copy."""
    older = cart.state()
    cart.add("PEN")
    cart.forge(older)


def set_pod_back(cart: Basket) -> None:
    """Put an older state back into the pod."""
    older = cart.state()
    cart.add("PEN")
    cart.place.change_oltp(
        """update oltp.carts set state = %(state)s::jsonb, vector = %(state)s::jsonb -> 'seen'
           where cart_id = %(cart_id)s""",
        state=older.decode(),
        cart_id=cart.key.cart_id,
    )


def lose_row(cart: Basket) -> None:
    """Delete the pod's row."""
    cart.place.change_oltp("delete from oltp.carts where cart_id = %(cart_id)s", cart_id=cart.key.cart_id)


def set_vector_ahead(cart: Basket) -> None:
    """Let Valkey's version vector say that it has changes which nobody made."""
    state = json.loads(cart.state())
    cart.forge(_text({**state, "seen": {actor: n + AHEAD for actor, n in state["seen"].items()}}))


def forge_dot(cart: Basket) -> None:
    """Let one addition say another number of units, under the same version vector."""
    state = json.loads(cart.state())
    cart.forge(_text({**state, "lines": {sku: _more(runs) for sku, runs in state["lines"].items()}}))


def lose_remove(cart: Basket) -> None:
    """Put back what was taken out, under the version vector that has seen it go."""
    lines = json.loads(cart.state())["lines"]
    cart.empty()
    cart.forge(_text({**json.loads(cart.state()), "lines": lines}))


def break_state(cart: Basket) -> None:
    """Put bytes into Valkey that are no cart."""
    cart.forge(b"?")


def _more(runs: Any) -> Any:
    """Return the additions of one SKU with one more unit in each: a run is first number, count, units of each."""
    if isinstance(runs, dict):
        return {actor: [[first, count, units + 1] for first, count, units in some] for actor, some in runs.items()}
    return [[*dot[:2], dot[2] + 1] for dot in runs]


def _text(state: State) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode()


def take_from_pod(place: Place, done: Harm) -> None:
    """Correct it as a person does who has seen that the pod is right: delete Valkey's key."""
    with basket(place, done.note) as opened:
        opened.server.client.delete(KEY + opened.key.text)


MERGE = (ActionKind.MERGE_CARTS,)


def _merged(damage: str, do: Damage, kind: Class) -> Cell:
    return Cell(damage=damage, store=NAME, do=do, named={f"oltp_{NAME}": frozenset({kind})}, actions=MERGE)


def _for_people(damage: str, do: Damage) -> Cell:
    named = {f"oltp_{NAME}": frozenset({Class.DIFFERENT})}
    return Cell(damage=damage, store=NAME, do=do, named=named, reason=NOT_BY_MERGE, undo=take_from_pod)


CELLS = {
    "carts and cache": (
        _merged("Valkey behind its pod", of_cart(set_valkey_back), Class.STALE),
        # The worker's writer may have read the cart before, and writes it once more.
        replace(_merged("pod behind Valkey", of_cart(set_pod_back), Class.STALE), may_mend_itself=True),
        replace(_merged("row of the pod lost", of_cart(lose_row), Class.MISSING), may_mend_itself=True),
        _merged("version vector ahead", of_cart(set_vector_ahead), Class.STALE),
        _for_people("addition forged", of_cart(forge_dot)),
        _for_people("removal lost", of_cart(lose_remove)),
        _for_people("state unreadable", of_cart(break_state)),
    ),
}
"""The cells by round."""
