"""What drills do with one read model alone, a module each, named after it.

Belongs here: these modules, and finding them by the contract's names. Does not belong here: what is done with all of
them (`drills/cells.py`).
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
"""What somebody tries who trusts an old answer, by what it is; each must be refused."""

LOOKED_AT = READ_MODELS[0]
"""The read model that is looked at where another copy is broken."""


class DrilledReadModel(Protocol):
    """What the module of a read model gives."""

    def ask(self, system: System, sale: Sale) -> Answer:
        """Ask it about a sale, as its readers do."""

    def decide(self, scene: Scene) -> Callable[[Sale], Decisions]:
        """Prepare a drill of stale reads. What is returned does what the view will not know of a sale, and returns
        what somebody decides wrongly who trusts the view.
        """


def drilled(copy: Copy) -> DrilledReadModel:
    """Return the module of a read model."""
    return cast("DrilledReadModel", import_module(f"drills.copies.{copy.name}"))
