"""How well search ranks: judged queries over real product names, also with a typing error each.

``python -m bench.relevance`` needs the folder with online_retail/ (TIEOUT_TEST_DATA). The judgements are our own
(`relevance_judgements.tsv`): which stock codes answer a query (3), which come near (1); no text of the data is in them.
Other sets: ``--products FILE`` with ``--judgements FILE``; docs/search.md describes both files.

nDCG@10: the gain of grade g is 2**g - 1, the discount of rank r is 1 / log2(r + 1), over the best possible order.
Belongs here: the measure. Does not belong here: how a query is made (`derived/search/`).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
import string
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import log2
from pathlib import Path

from bench.figures import Figure, report
from bench.judged_sets import Judgements, Product, read_judgements, read_products
from contracts.errors import InputError
from contracts.text import counted, visible
from derived.keyed.rows import Content
from derived.search.asking import Question, answer
from derived.search.documents import MERCHANTS, PRODUCTS, ListedMerchant, ListedProduct, ListedVariant
from derived.search.readers import PodReader, Seen
from derived.search.store import SearchStore

JUDGEMENTS = Path(__file__).with_name("relevance_judgements.tsv")
POD, MERCHANT = "pod1", "shop"
DEPTH = 10
CLEAN_MIN, TYPO_RATIO_MIN = 0.76, 0.9
SEED = 20
TYPO_FROM_LETTERS = 4
"""Words of fewer letters get no typing error: the rest of them names too many other words."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.relevance", description=__doc__)
    parser.add_argument("--products", type=Path, help="products of another judged set")
    parser.add_argument("--judgements", type=Path, default=JUDGEMENTS, help="its judgements")
    parser.add_argument("--worst", type=int, default=0, help="also name so many queries that rank worst")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if options.products and options.judgements == JUDGEMENTS:
        parser.error("--products needs --judgements: ours are of other products.")
    try:
        products = read_products(options.products) if options.products else retail_products(_data())
        judgements = read_judgements(options.judgements)
    except InputError as error:
        parser.error(str(error))
    _tell_unknown(products, judgements)
    with tempfile.TemporaryDirectory(prefix="tieout-relevance-") as folder:
        began = time.process_time()
        seen = indexed(products, Path(folder))
        indexing_seconds = time.process_time() - began
        clean = measured(seen, judgements)
        typo = measured(seen, judgements, random.Random(SEED))
    for query in sorted(clean, key=lambda one: clean[one] + typo[one])[: options.worst]:
        print(f"{clean[query]:.2f} {typo[query]:.2f} {query}", file=sys.stderr)
    return report("relevance", _figures(len(products), indexing_seconds, clean, typo), is_json=options.json)


def _tell_unknown(products: Sequence[Product], judgements: Judgements) -> None:
    """Say how many judged items are no products of the set: they count as never found, and so lower the figures."""
    known = {product.id for product in products}
    unknown = {item for grades in judgements.values() for item in grades if item not in known}
    if unknown:
        print(
            f"{counted(len(unknown), 'judged item')} are no products of the set, e.g. {visible(min(unknown))}.",
            file=sys.stderr,
        )


def _figures(
    products: int, indexing_seconds: float, clean: Mapping[str, float], typo: Mapping[str, float]
) -> list[Figure]:
    reached, mistyped = mean(clean.values()), mean(typo.values())
    ratio = mistyped / reached if reached else 0.0
    goal, ratio_goal = f">= {CLEAN_MIN}", f">= {TYPO_RATIO_MIN}"
    speed = products / indexing_seconds
    return [
        Figure(name="judged queries", value=len(clean), unit="queries"),
        Figure(name="nDCG@10", value=reached, unit="", goal=goal, is_met=reached >= CLEAN_MIN),
        Figure(name="nDCG@10, one typing error", value=mistyped, unit=""),
        Figure(name="of the first", value=ratio, unit="", goal=ratio_goal, is_met=ratio >= TYPO_RATIO_MIN),
        Figure(name="products indexed per CPU second", value=speed, unit="products/s"),
    ]


def retail_products(data: Path) -> list[Product]:
    """Return the articles of the retail data: of each stock code the name that most lines have."""
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted((data / "online_retail").glob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if (name := row["Description"].strip()) and float(row["UnitPrice"]) > 0:
                    names[row["StockCode"].upper()][name] += 1
    return [Product(id=code, title=found.most_common(1)[0][0]) for code, found in sorted(names.items())]


def indexed(products: Iterable[Product], folder: Path, merchant_id: str = MERCHANT) -> Seen:
    """Index the products as one merchant's, and return the commit that has them."""
    rows = [_row(product, merchant_id) for product in products]
    with SearchStore(folder).transaction() as session:
        session.lock_positions(POD, [0])
        session.write(MERCHANTS, Content(rows=[_merchant(merchant_id)], children=[], absent=[]))
        session.write(PRODUCTS, Content(rows=rows, children=[], absent=[]))
    return PodReader(folder, POD).seen()


def measured(seen: Seen, judgements: Judgements, typing: random.Random | None = None) -> dict[str, float]:
    """Return query -> nDCG@10; with `typing`, of the query with one random typing error."""
    reached = {}
    for query, grades in judgements.items():
        text = query if typing is None else mistyped(query, typing)
        found = answer(seen, Question(merchant_id=MERCHANT, text=text, limit=DEPTH))
        reached[query] = ndcg([grades.get(hit.product.product_id, 0) for hit in found.hits], grades.values())
    return reached


def mistyped(query: str, typing: random.Random) -> str:
    """Return the query with one letter of one word left out, doubled by a wrong one, replaced, or exchanged."""
    words = query.split(" ")
    place = typing.choice([n for n, word in enumerate(words) if len(word) >= TYPO_FROM_LETTERS] or range(len(words)))
    word, wrong = words[place], typing.choice(string.ascii_lowercase)
    at = typing.randrange(max(1, len(word) - 1))
    kinds = (
        word[:at] + word[at + 1 :],
        word[:at] + wrong + word[at:],
        word[:at] + wrong + word[at + 1 :],
        word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
    )
    words[place] = typing.choice(kinds)
    return " ".join(words)


def ndcg(found: Sequence[int], grades: Iterable[int], depth: int = DEPTH) -> float:
    """Return the discounted gain of the grades found, in their order, over that of the best order; 0 to 1."""
    best = _gain(sorted(grades, reverse=True)[:depth])
    return _gain(found[:depth]) / best if best else 0.0


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values; 0 without any."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum((2.0**grade - 1) / log2(rank + 2) for rank, grade in enumerate(grades))


def _data() -> Path:
    return Path(os.environ.get("TIEOUT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def _merchant(merchant_id: str) -> ListedMerchant:
    return ListedMerchant(
        merchant_id=merchant_id,
        aggregate_id=merchant_id,
        pod=POD,
        epoch="e",
        version=1,
        name="Shop",
        currency="GBP",
        is_active=True,
        jurisdiction="GB",
    )


def _row(product: Product, merchant_id: str) -> ListedProduct:
    variant = ListedVariant(variant_id=product.id, sku=product.id, title="", is_active=True, unit_price_micro=1)
    return ListedProduct(
        merchant_id=merchant_id,
        product_id=product.id,
        pod=POD,
        epoch="e",
        version=1,
        title=product.title,
        kind="goods",
        tax_category="standard",
        is_active=True,
        variants=[variant],
        brand=product.brand,
        body=product.body,
        attributes=product.attributes,
    )


if __name__ == "__main__":
    sys.exit(main())
