"""Charts of a report, as SVG for a page: one per currency, because amounts of two currencies have no sum.

A chart shows the proportions; the exact figures are in the table. Belongs here: what is drawn for which report. Does
not belong here: the page (`finance/page.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from derived.reports import Report
from finance.certificate_tables import amount
from finance.presentation import exponent

# pygal adds a finder for map plug-ins to sys.meta_path. We do not use these plug-ins, and the finder has no
# `find_spec`, so Python 3.11 would warn at every import of a module that does not exist.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

BARS_MAX = 31
"""A month of days; for other labels, the largest amounts."""

BARS_MIN = 12
"""Room for at least this many bars is drawn, so that a single day is a bar of the usual width."""

STYLE = Style(
    background="transparent",
    plot_background="transparent",
    font_family="system-ui, sans-serif",
    colors=("#1f5fa8",),
    opacity="1",
    label_font_size=11,
    major_label_font_size=11,
    title_font_size=15,
)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a chart shows: a sum per label, in the order of the labels or the largest first."""

    label: str
    value: str
    title: str
    is_ordered: bool = False


DRAWINGS: Mapping[str, Drawing] = {
    "daily": Drawing(label="sales_date", value="net_minor", title="Net by day", is_ordered=True),
    "merchant-payable": Drawing(label="merchant_id", value="payable_minor", title="Owed to merchants"),
    "tax": Drawing(label="jurisdiction", value="tax_minor", title="Tax by jurisdiction"),
    "trial-balance": Drawing(label="account", value="balance_micro", title="Balance by account", is_ordered=True),
}


def charts_of(report: Report) -> list[str]:
    """Return the charts as SVG elements, ordered by currency; the same report gives the same text."""
    drawing = DRAWINGS[report.name]
    return [_chart(drawing, currency, sums, f"{report.name}-{currency}") for currency, sums in _sums(report, drawing)]


def _sums(report: Report, drawing: Drawing) -> Iterator[tuple[str, dict[str, int]]]:
    columns = report.columns
    label, value, currency = (columns.index(name) for name in (drawing.label, drawing.value, "currency"))
    found: dict[str, dict[str, int]] = {}
    for row in report.rows:
        sums = found.setdefault(str(row[currency]), {})
        name = str(row[label])
        sums[name] = sums.get(name, 0) + int(str(row[value] or 0))
    for code, sums in sorted(found.items()):
        if any(sums.values()):
            yield code, _shown(sums, drawing)


def _shown(sums: Mapping[str, int], drawing: Drawing) -> dict[str, int]:
    if drawing.is_ordered:
        return dict(sorted(sums.items())[-BARS_MAX:])
    return dict(sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0]))[:BARS_MAX])


def _chart(drawing: Drawing, currency: str, sums: Mapping[str, int], chart_id: str) -> str:
    chart = pygal.Bar(
        width=900,
        height=280,
        style=STYLE,
        js=(),
        show_legend=False,
        max_scale=8,
        x_label_rotation=45,
        truncate_label=24,
        disable_xml_declaration=True,
        title=f"{drawing.title}, {currency}" + (f", the largest {BARS_MAX}" if len(sums) == BARS_MAX else ""),
        formatter=lambda value: amount(drawing.value, int(value), currency),
        value_formatter=lambda value: whole(drawing.value, int(value), currency),
    )
    # Without this pygal uses a random id, and the same report would not give the same text.
    chart.uuid = chart_id
    room = max(0, BARS_MIN - len(sums))
    chart.x_labels = [*sums, *[""] * room]
    chart.add(drawing.title, [*sums.values(), *[None] * room])
    return _plain_svg(chart.render(is_unicode=True))


def whole(name: str, value: int, currency: str) -> str:
    """Return an amount for an axis: without decimals, unless it is less than ten."""
    text = amount(name, value, currency)
    return text if abs(value) < 10 ** (exponent(name, currency) + 1) else text.partition(".")[0]


def _plain_svg(text: str) -> str:
    """Return the drawing without scripts and without comments; comments contain the date when it was made."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)  # this drops comments
    for parent in root.iter():
        for child in [item for item in parent if str(item.tag).endswith("}script")]:
            parent.remove(child)
    return ElementTree.tostring(root, encoding="unicode")
