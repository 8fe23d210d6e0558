"""The lock of imports: free in the moment an import has ended."""

from __future__ import annotations

import pytest

from contracts.errors import ConflictError
from contracts.settings import Settings
from traffic.only_import import only_import


def test_an_import_right_after_another_finds_the_lock_free(settings: Settings) -> None:
    ended = 0
    for _ in range(50):
        with only_import(settings), pytest.raises(ConflictError, match="Another import is running"):  # noqa: SIM117
            with only_import(settings):
                pass
        ended += 1
    assert ended == 50
