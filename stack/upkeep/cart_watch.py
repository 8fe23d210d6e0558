"""Watches the carts: people get an alert of those that were put aside, because they cannot be written.

Belongs here: one look, and which finding people must know. Does not belong here: carts that differ, which are breaks of
the ledger (`reconcile/copies/cart.py`), how many carts wait for their pod (`stack/looking/headroom.py`), when people
are told (`repair/alerts/outages.py`).
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
        if aside := valkey.aside(pod):
            key, number = min(aside), counted(len(aside), "cart of", "carts of")
            first = "was put aside, because it cannot be read or the pod refuses it"
            yield Trouble(
                name=f"carts of {pod}",
                sentence=f"{number} {pod} cannot be written; cart {key.cart_id} of {key.merchant_id} {first}",
                when_down=("All other carts, and orders.",),
                look="tieout carts",
                runbook="docs/runbooks/carts.md",
                about=About.WORKER,
                needs_person=True,
            )
