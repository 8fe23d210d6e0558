from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stack.processes.data_docs import data_docs_url, forget_address, write_data_docs_site


def test_the_pages_are_where_they_are_served_and_else_in_their_folder(tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(data_docs_dir=tmp_path)
    assert data_docs_url(settings).startswith("file://")
    write_data_docs_site(settings, 3001)
    assert data_docs_url(settings) == "http://127.0.0.1:3001"
    for _ in range(2):
        forget_address(settings)
        assert data_docs_url(settings).startswith("file://")
