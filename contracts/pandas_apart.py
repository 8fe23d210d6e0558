"""Keeping pandas out of processes that use no data frames: importing it costs each 0.3 s of CPU and 70 MB of memory.

DuckDB imports it when a value is first bound to a query, and pyarrow when a list becomes an array, only to ask whether
it was given a data frame. Belongs here: letting pandas look absent, and letting it in.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PANDAS = "pandas"


class _Absent(MetaPathFinder):
    """What Python asks first where a module is; of pandas it says that there is none."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == PANDAS:
            raise ModuleNotFoundError("pandas is kept out of this process (contracts/pandas_apart.py)", name=PANDAS)
        return None


_ABSENT = _Absent()


def keep_pandas_out() -> None:
    """Let pandas look absent to this process; what imported it before keeps it."""
    if _ABSENT not in sys.meta_path:
        sys.meta_path.insert(0, _ABSENT)


def let_pandas_in() -> None:
    """Let this process import pandas after all."""
    if _ABSENT in sys.meta_path:
        sys.meta_path.remove(_ABSENT)
