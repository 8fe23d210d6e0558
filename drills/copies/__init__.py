"""The parts of drills that depend on one read model, or on search: one module per copy, with its name.

Belongs here: these modules, and finding them by the contract's names. Does not belong here: steps for every read model
(`drills/cells.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from contracts.ownership import READ_MODELS, Copy
from drills.answer import Answer

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System
    from drills.trading import Sale

Decisions = Mapping[str, Callable[[], object]]
"""By name: wrong decisions of a user who trusts a stale answer; OLTP must refuse each of them."""

LOOKED_AT = READ_MODELS[0]
"""The read model that is queried when another copy is broken."""


class DrilledReadModel(Protocol):
    """The interface of the module of a read model."""

    def ask(self, system: System, sale: Sale) -> Answer:
        """Query the read model about a sale, as its readers do."""

    def decide(self, scene: Scene) -> Callable[[Sale], Decisions]:
        """Prepare a drill of stale reads.

        The returned function changes a sale in OLTP while the view is stopped, and returns wrong decisions of a user
        who trusts the stale view.
        """


def drilled(copy: Copy) -> DrilledReadModel:
    """Return the module of a read model."""
    return cast("DrilledReadModel", import_module(f"drills.copies.{copy.name}"))
