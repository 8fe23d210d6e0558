"""Where the pages of Great Expectations are shown: their folder, served on loopback beside Dagster's pages.

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
    """Make the folder of pages, note at which port it will be served, and return it."""
    site = settings.data_docs_dir / SITE
    site.mkdir(parents=True, exist_ok=True)
    index = site / "index.html"
    if not index.exists():
        index.write_text(NOTHING_YET, encoding="utf-8")
    write_private(settings.data_docs_dir / "url", f"http://{LOOPBACK}:{port}\n")
    return site


def forget_address(settings: Settings) -> None:
    """Let nobody be sent to an address at which nothing serves the pages any more."""
    (settings.data_docs_dir / "url").unlink(missing_ok=True)


def data_docs_url(settings: Settings) -> str:
    """Return the address of the folder of pages: where it is served, or the folder itself while it is not."""
    try:
        return (settings.data_docs_dir / "url").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return (settings.data_docs_dir / SITE).as_uri()
