"""Random histories of a cart on three devices that exchange states, for the properties of carts.

Belongs here: the histories, and what a cart must hold, computed without merging. Does not belong here: assertions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from oltp.domain import carts
from oltp.domain.carts import EMPTY, Cart, Dot

DEVICES = ("laptop", "phone", "tablet")
SKUS = ("MUG", "PEN", "PIN")

_device = st.sampled_from(DEVICES)
_sku = st.sampled_from(SKUS)
_quantity = st.integers(1, 5)
steps = st.one_of(
    st.tuples(st.just("add"), _device, _sku, _quantity),
    st.tuples(st.just("remove"), _device, _sku),
    st.tuples(st.just("set"), _device, _sku, st.integers(0, 5)),
    st.tuples(st.just("close"), _device),
    st.tuples(st.just("read"), _device, _device),
)
histories = st.lists(steps, max_size=25)


@dataclass
class World:
    """Every device's cart, and beside it the plain sets from which its content follows."""

    held: dict[str, Cart] = field(default_factory=lambda: dict.fromkeys(DEVICES, EMPTY))
    states: list[Cart] = field(default_factory=list)
    """Every state that a device ever had; any of them may arrive anywhere, at any time, again."""
    known: dict[str, set[Dot]] = field(default_factory=lambda: {device: set() for device in DEVICES})
    """The additions that each device knows of, removed or not."""
    added: dict[Dot, tuple[str, int]] = field(default_factory=dict)
    removed: dict[str, set[Dot]] = field(default_factory=lambda: {device: set() for device in DEVICES})
    """The additions of which each device knows that somebody who had seen them removed them."""

    def do(self, step: tuple[Any, ...]) -> None:
        """Let one step of a history happen."""
        name, device, *rest = step
        if name == "read":
            self.receive(device, rest[0])
        else:
            getattr(self, f"_{name}")(device, *rest)
        self.states.append(self.held[device])

    def receive(self, device: str, sender: str) -> None:
        """Let a device merge another's state."""
        self.held[device] = carts.merge(self.held[device], self.held[sender])
        self.known[device] |= self.known[sender]
        self.removed[device] |= self.removed[sender]

    def sums(self, *devices: str) -> dict[str, int]:
        """Return the sum of the additions that these devices know and that no removal known to them has observed."""
        left = set().union(*(self.known[device] for device in devices))
        left -= set().union(*(self.removed[device] for device in devices))
        sums: dict[str, int] = {}
        for sku, quantity in sorted(self.added[dot] for dot in left):
            sums[sku] = sums.get(sku, 0) + quantity
        return sums

    def _add(self, device: str, sku: str, quantity: int) -> None:
        self._note(device, sku, quantity)
        self.held[device] = carts.add(self.held[device], device, sku, quantity, len(self.states))

    def _remove(self, device: str, sku: str) -> None:
        self._forget(device, sku)
        cart = self.held[device]
        self.held[device] = carts.remove(cart, device, sku, cart.seen, len(self.states))

    def _set(self, device: str, sku: str, quantity: int) -> None:
        self._forget(device, sku)
        cart = self.held[device]
        if quantity:
            self._note(device, sku, quantity)
        self.held[device] = carts.set_quantity(cart, device, sku, quantity, cart.seen, len(self.states))

    def _close(self, device: str) -> None:
        self.removed[device] |= self.known[device]
        self.held[device] = carts.close(self.held[device], device, len(self.states))

    def _note(self, device: str, sku: str, quantity: int) -> None:
        dot = (device, self.held[device].seen.get(device, 0) + 1)
        self.added[dot] = (sku, quantity)
        self.known[device].add(dot)

    def _forget(self, device: str, sku: str) -> None:
        self.removed[device] |= {dot for dot in self.known[device] if self.added[dot][0] == sku}


def lived(history: list[tuple[Any, ...]]) -> World:
    """Return the world after a history."""
    world = World()
    for step in history:
        world.do(step)
    return world
