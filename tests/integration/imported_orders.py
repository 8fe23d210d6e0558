"""Orders of a shop's own, brought in by the command: what tests of the whole way compare with the reports."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from examples.shop_orders import orders
from tests.integration.finance_office import Office

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/orders"


def import_shops(office: Office, folder: Path) -> dict[str, Decimal]:
    """Import orders of every kind and the examples; return what is left in cash by currency, as the files say."""
    path = folder / "orders.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in orders(30, seed=5)))
    files = (str(path), str(EXAMPLES / "orders.jsonl"))
    made = office.run("import", "--format", "orders", *files)
    mapping = ("--mapping", str(EXAMPLES / "shop.toml"))
    mapped = office.run("import", "--format", "orders", *mapping, str(EXAMPLES / "export.csv"))
    assert (made["orders_imported"], made["rejected"], made["unfinished"]) == (33, {}, 0)
    assert (mapped["orders_imported"], mapped["rejected"]) == (3, {})
    cash: dict[str, Decimal] = {}
    for one in [*made["amounts"], *mapped["amounts"]]:
        sign = {"captured": 1, "refunded": -1, "sold": 0}[one["amount"]]
        cash[one["currency"]] = cash.get(one["currency"], Decimal(0)) + sign * Decimal(one["read"])
    return cash


def cash_of_shops(office: Office) -> dict[str, Decimal]:
    """Return what the journal has in cash of the imported shops, by currency."""
    cash: dict[str, Decimal] = {}
    for row in office.report("trial-balance")["rows"]:
        if row["merchant_id"] in ("maple", "nordwind", "teehaus") and row["account"] == "cash":
            cash[row["currency"]] = cash.get(row["currency"], Decimal(0)) + Decimal(row["balance_micro"]).scaleb(-6)
    return cash
