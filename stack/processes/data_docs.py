"""The address of the pages of Great Expectations: their folder is served on loopback, like Dagster's pages.

Belongs here: the folder's address. Does not belong here: what is written there (`checks/expectations/`).
"""

from __future__ import annotations

from pathlib import Path

from contracts.settings import Settings
from stack.files import write_private
from stack.ports import LOOPBACK

SITE = "site"
NOTHING_YET = """\
<!doctype html><meta charset="utf-8"><title>Data Docs</title>
<p>No suite of expectations has run yet: start the job <code>expectations</code> in Dagster, or wait for its hour.</p>
"""


def write_data_docs_site(settings: Settings, port: int) -> Path:
    """Make the folder of pages, store the address at which it will be served, and return the folder."""
    site = settings.data_docs_dir / SITE
    site.mkdir(parents=True, exist_ok=True)
    index = site / "index.html"
    if not index.exists():
        index.write_text(NOTHING_YET, encoding="utf-8")
    write_private(settings.data_docs_dir / "url", f"http://{LOOPBACK}:{port}\n")
    return site


def forget_address(settings: Settings) -> None:
    """Delete the stored address, because the pages are no longer served at it."""
    (settings.data_docs_dir / "url").unlink(missing_ok=True)


def data_docs_url(settings: Settings) -> str:
    """Return the address at which the folder of pages is served, or the folder's file URL when it is not served."""
    try:
        return (settings.data_docs_dir / "url").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return (settings.data_docs_dir / SITE).as_uri()
