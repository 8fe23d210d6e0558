"""Pages of Data Docs that load nothing from other servers, and an index of them.

Great Expectations' pages load their style, their icons and the script that fills their index from a dozen servers on
the internet. Without these the index is empty; with them, those servers would see who looks at data quality. Therefore
we remove scripts and addresses, add a style of our own, and write the index as a table.

Belongs here: pages as text, pure. Does not belong here: the folder (`pages.py`), their content (`judge.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from contracts.text import counted

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:76rem;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:.4rem 0}
td,th{padding:.25rem .6rem;border-bottom:1px solid #dde3ea;text-align:left}
td table td,td table th{font-family:ui-monospace,monospace;font-size:13px}
a{color:#1557b0}.bad,.text-danger{color:#b3261e}.good,.text-success{color:#1a7f37}
.fa-check-circle::before{content:"\\2713 holds"}.fa-times::before{content:"\\2717 does not hold"}
.fa-exclamation-triangle::before{content:"? could not be looked at"}
i{font-style:normal;white-space:nowrap}ol,ul{padding-left:1.2rem}h1,h2,h4,h5,h6{margin:.8rem 0 .2rem}
footer,.card:has(.btn-group),[data-toggle=collapse]{display:none}
@media(prefers-color-scheme:dark){body{background:#10151b;color:#dbe2ea}a{color:#8ab4f8}td,th{border-color:#2b3440}}
"""
SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL)
FOREIGN = re.compile(r"<(?:link|img)\b[^>]*\bhttps?://[^>]*>")
STYLES = re.compile(r"<style\b.*?</style>", re.DOTALL)
SUITE_LINK = re.compile(r'<a href="[^"]*expectations/[^"]*"\s*>(.*?)</a>', re.DOTALL)
FOOTER = re.compile(r"<footer>.*?</footer>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PageEntry:
    """One page in the index."""

    name: str
    """Store, suite and pod, separated by dots."""
    run_at: str
    met: int
    expectations: int
    page: str
    """Path relative to the index."""


def stand_alone(page: str) -> str:
    """Return a page that loads nothing from other servers; idempotent."""
    for pattern in (SCRIPTS, STYLES, FOREIGN, FOOTER):
        page = pattern.sub("", page)
    page = SUITE_LINK.sub(r"\1", page)
    return page.replace("</head>", f"<style>{STYLE}</style></head>", 1)


def index_page(entries: Iterable[PageEntry]) -> str:
    """Return the index: the newest run of every suite first, then the earlier ones."""
    newest: dict[str, PageEntry] = {}
    earlier: list[PageEntry] = []
    for entry in sorted(entries, key=lambda entry: entry.run_at, reverse=True):
        if entry.name in newest:
            earlier.append(entry)
        else:
            newest[entry.name] = entry
    present = sorted(newest.values(), key=lambda entry: (entry.met == entry.expectations, entry.name))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title><style>{STYLE}</style>'
        f"</head><body><h1>Data Docs</h1><p>{_summary(present)}</p>{_table(present)}"
        f"<h2>Earlier runs</h2>{_table(earlier)}</body></html>\n"
    )


def _summary(present: list[PageEntry]) -> str:
    good = sum(entry.met == entry.expectations for entry in present)
    hold = counted(len(present), "suite holds", "suites hold")
    return f"{good} of {hold} in the newest run of each; what does not hold is on top."


def _table(entries: Iterable[PageEntry]) -> str:
    rows = "".join(
        f'<tr><td><a href="{escape(entry.page)}">{escape(entry.name)}</a></td>'
        f'<td class="{"good" if entry.met == entry.expectations else "bad"}">{entry.met} of {entry.expectations}</td>'
        f"<td>{escape(entry.run_at[:19].replace('T', ' '))}</td></tr>"
        for entry in entries
    )
    return f"<table><tr><th>Suite</th><th>Expectations that hold</th><th>Run (UTC)</th></tr>{rows}</table>"
