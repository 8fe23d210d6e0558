"""A report as one printable page: table, charts, certificate, and nothing that is fetched from anywhere.

Belongs here: HTML. Does not belong here: the figures, the certificate's values, the drawings (`finance/charts.py`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from finance.charts import charts_of
from finance.presentation import heading, is_number, shown_rows, standing
from finance.statement import Statement, certificate_file
from finance.tables import certificate_tables, with_thousands

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
FIGURES_ID = "figures"
"""Of the table that holds the figures; verification reads it back."""
CERTIFICATE_ID = "certificate"
"""Of the certificate as data, which nothing shows."""


def html_file(statement: Statement) -> bytes:
    """Return the report as an HTML file; the same statement gives the same bytes."""
    report = statement.report
    summary, *tables = certificate_tables(statement)
    text = _template().render(
        title=statement.title,
        standing=standing(report),
        conclusion=statement.certificate.conclusion,
        figures_id=FIGURES_ID,
        certificate_id=CERTIFICATE_ID,
        headings=[(heading(name), is_number(name)) for name in report.columns],
        rows=[
            [
                (with_thousands(text) if is_number(name) and text else text, is_number(name))
                for name, text in zip(report.columns, row, strict=True)
            ]
            for row in shown_rows(report)
        ],
        charts=charts_of(report),
        certificate=_script_json(certificate_file(statement)),
        summary=summary,
        tables=tables,
    )
    return text.encode()


def _script_json(data: bytes) -> str:
    # Inside a script element only a "<" could end it.
    return data.decode().replace("<", "\\u003c")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
