"""Watches the carts: people get an alert of those that wait for a person, because a merge does not repair them.

Belongs here: one look, and which finding people must know. Does not belong here: what the worker of carts finds
(`stack/upkeep/cart_keeping.py`), how many carts wait for their pod (`stack/looking/headroom.py`), when people are told
(`repair/alerts/outages.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from contracts.settings import Settings
from contracts.text import counted
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from repair.alerts.outages import About, Trouble


@dataclass(kw_only=True)
class CartWatch:
    """The newest look at the carts of one stack. What was found stays until their server answers again."""

    settings: Settings
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once; raises the error of the server of carts."""
        if not self.settings.carts_url:
            return
        with closing(CartServer(self.settings.carts_url)) as server:
            valkey = ValkeyCarts(server, queued_max=self.settings.carts_queued_max)
            self.troubles = tuple(trouble for pod in self.settings.pods for trouble in self._of_pod(valkey, pod.pod))

    def _of_pod(self, valkey: ValkeyCarts, pod: str) -> Iterator[Trouble]:
        left = {key: f"is {kind}" for key, kind in valkey.left(pod).items()}
        left |= {key: "was put aside, because it cannot be read or the pod refuses it" for key in valkey.aside(pod)}
        if left:
            key, first = min(left.items())
            number = counted(len(left), "cart of", "carts of")
            yield Trouble(
                name=f"carts of {pod}",
                sentence=f"{number} {pod} cannot be merged; cart {key.cart_id} of {key.merchant_id} {first}",
                when_down=("All other carts, and orders.",),
                look="tieout carts",
                runbook="docs/runbooks/carts.md",
                about=About.WORKER,
                needs_person=True,
            )
