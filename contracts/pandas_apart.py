"""Prevents the import of pandas in processes that use no data frames; it takes 0.3 s of CPU and 70 MB of memory.

DuckDB imports pandas when a value is first bound to a query, and pyarrow when a list is converted to an array. Both
only check whether the value is a data frame. Belongs here: hiding pandas from the import system, and showing it again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PANDAS = "pandas"


class _Absent(MetaPathFinder):
    """An import finder that Python asks first; it answers that there is no module pandas."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == PANDAS:
            raise ModuleNotFoundError("pandas is kept out of this process (contracts/pandas_apart.py)", name=PANDAS)
        return None


_ABSENT = _Absent()


def keep_pandas_out() -> None:
    """Hide pandas from later imports in this process; modules that imported it before keep it."""
    if _ABSENT not in sys.meta_path:
        sys.meta_path.insert(0, _ABSENT)


def let_pandas_in() -> None:
    """Allow this process to import pandas again."""
    if _ABSENT in sys.meta_path:
        sys.meta_path.remove(_ABSENT)
