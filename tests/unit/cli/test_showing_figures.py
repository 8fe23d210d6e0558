from __future__ import annotations

import pytest

from cli.showing import show_figures
from reconcile.figures import Figure


def figure(pod: str, operational: int, finance: int) -> Figure:
    return Figure(pod=pod, cut=7, currency="EUR", name="captured_minor", operational=operational, finance=finance)


def test_totals_are_shown_and_every_pod_that_differs(capsys: pytest.CaptureFixture[str]) -> None:
    show_figures([figure("pod1", 1_000, 1_000), figure("pod2", 234_500, 234_400)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "│ Captured │ EUR │ all │ 2,355.00 │ 2,354.00 │ -1.00 │" in shown
    assert "│ Captured │ EUR │ pod2 │ 2,345.00 │ 2,344.00 │ -1.00 │" in shown
    assert "│ pod1 │" not in shown


def test_a_comparison_without_figures_shows_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_figures([])
    assert capsys.readouterr().out == ""
