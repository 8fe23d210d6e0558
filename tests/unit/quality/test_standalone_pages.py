"""Pages that need nothing from elsewhere, their index, and which of them are kept."""

from __future__ import annotations

from pathlib import Path

from checks.expectations.pages import PAGES, RESULTS, prune
from checks.expectations.standalone import PageEntry, index_page, stand_alone

PAGE = """<html><head><link rel="stylesheet" href="https://elsewhere/a.css"><style>b{background:url('https://x')}</style>
<script src="https://elsewhere/a.js"></script></head><body><img
 src="https://elsewhere/logo.png" alt=""><a href="../expectations/marts/orders.html" >marts.orders</a>
<script>$(document)</script><table><tr><td>total_minor</td></tr></table><footer><a href="https://n">n</a></footer></body></html>"""


def entry(name: str, run_at: str, met: int) -> PageEntry:
    return PageEntry(name=name, run_at=run_at, met=met, expectations=3, page=f"validations/{name}/{run_at}.html")


def test_a_page_fetches_nothing_and_keeps_what_it_says() -> None:
    page = stand_alone(PAGE)
    assert "http" not in page and "<script" not in page and "marts.orders" in page and "total_minor" in page
    assert "<style>" in page and stand_alone(page) == page


def test_the_index_shows_what_does_not_hold_first_and_the_newest_of_each() -> None:
    page = index_page([entry("a", "2026-03-01", 3), entry("b", "2026-03-02", 2), entry("a", "2026-03-02", 3)])
    present, _, earlier = page.partition("Earlier runs")
    assert "1 of 2 suites hold" in present and present.index(">b<") < present.index(">a<")
    assert "validations/a/2026-03-02.html" in present and "validations/a/2026-03-01.html" in earlier


def test_old_runs_go_with_their_pages(tmp_path: Path) -> None:
    for part in (RESULTS, f"{PAGES}/validations"):
        for number in range(4):
            (tmp_path / part / "oltp/orders/pod1" / f"run-{9 - number}" / f"2026030{number + 1}T000000").mkdir(
                parents=True
            )
    assert prune(tmp_path, kept=2) == 2 and prune(tmp_path, kept=2) == 0
    for part in (RESULTS, f"{PAGES}/validations"):
        assert sorted(run.name for run in (tmp_path / part / "oltp/orders/pod1").iterdir()) == ["run-6", "run-7"]
