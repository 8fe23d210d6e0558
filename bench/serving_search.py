"""The cost of a search over HTTP, with facets and highlights, against the same question asked of the index alone.

    python -m bench.serving_search [--products N] [--searches N] [--rounds N] [--json]

The products are made up, two to four words each, with a brand and two attributes; every third search has a typing
error. Belongs here: processor time of the serving processes and of PostgreSQL per search, and that of one process which
only asks. Does not belong here: how well a search ranks (`bench/relevance.py`), other requests (`bench/serving.py`).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from statistics import median
from urllib.parse import urlencode

from bench.commands import MERCHANT
from bench.figures import Figure, measured
from bench.judged_sets import Product
from bench.relevance import indexed, mistyped
from bench.serving import Served, cost_of_reads, serving
from derived.search.asking import Question, answer
from derived.search.folders import base_folder
from derived.search.readers import Seen

RATIO_MAX = 3.0
"""A search over HTTP costs at most so many times the question alone."""
SEED = 20
FACETS = ("brand", "color", "material")
LIMIT = 20
COLORS = ("red", "blue", "green", "white", "black", "ivory", "amber", "violet")
MATERIALS = ("oak", "steel", "glass", "linen", "wool", "tin", "clay", "paper")
THINGS = ("lantern", "kettle", "basket", "candle", "drawer", "mirror", "garland", "teapot", "cushion", "trinket")
KINDS = ("hanging", "vintage", "folding", "painted", "travel", "garden", "kitchen", "party", "pocket", "christmas")
SYLLABLES = ("ba", "de", "ki", "lo", "mu", "ne", "po", "ra", "si", "tu", "va", "zo")


def measure(*, products: int = 19_000, searches: int = 2_000, rounds: int = 3) -> list[Figure]:
    """Return the processor time of a search over HTTP, that of the question alone, and their ratio."""
    chosen = random.Random(SEED)
    made = [_product(number, chosen) for number in range(products)]
    typed = [_typed(chosen.choice(made), number, chosen) for number in range(searches)]
    with serving() as served:
        seen = indexed(made, base_folder(served.settings), merchant_id=MERCHANT)
        _alone(seen, typed[: searches // 10])
        over_http(served, typed[: searches // 10])
        pairs = [(_alone(seen, typed), over_http(served, typed)) for _ in range(rounds)]
    ratio = median(http / alone for alone, http in pairs)
    return [
        Figure(name="products", value=products, unit=""),
        Figure(name="the question alone", value=median(alone for alone, _ in pairs) / searches * 1e6, unit="us"),
        Figure(name="search over HTTP", value=median(http for _, http in pairs) / searches * 1e6, unit="us"),
        Figure(name="ratio", value=ratio, unit="", goal=f"<= {RATIO_MAX:g}", is_met=ratio <= RATIO_MAX),
    ]


def over_http(served: Served, typed: Sequence[str]) -> float:
    """Return the processor seconds of the serving processes and of PostgreSQL for these searches."""
    asked = ({"q": text, "facets": ",".join(FACETS), "limit": str(LIMIT)} for text in typed)
    cost = cost_of_reads(served, [f"/v1/search?{urlencode(query)}" for query in asked])
    return cost.client + cost.server


def _alone(seen: Seen, typed: Sequence[str]) -> float:
    """Return the processor seconds of the same questions, asked in this process."""
    began = time.process_time()
    found = [answer(seen, Question(merchant_id=MERCHANT, text=text, facets=FACETS, limit=LIMIT)) for text in typed]
    used = time.process_time() - began
    if not all(one.hits for one in found):
        raise SystemExit("A search for words of a product found nothing.")
    return used


def _product(number: int, chosen: random.Random) -> Product:
    color, material = chosen.choice(COLORS), chosen.choice(MATERIALS)
    words = [chosen.choice(KINDS), color, material, chosen.choice(THINGS)]
    name = "".join(chosen.choice(SYLLABLES) for _ in range(3))
    return Product(
        id=f"p{number}",
        title=" ".join([name, *words[chosen.randrange(3) :]]),
        brand="".join(chosen.choice(SYLLABLES) for _ in range(2)),
        body=f"A {words[0]} {words[3]} of {material} in {color}, made by hand, for the house and for the garden.",
        attributes={"color": color, "material": material},
    )


def _typed(product: Product, number: int, chosen: random.Random) -> str:
    words = product.title.split()
    text = " ".join(words[-2:]) if number % 2 else words[0]
    return mistyped(text, chosen) if number % 3 == 0 else text


if __name__ == "__main__":
    sys.exit(measured(measure, products="products of the shop", searches="searches", rounds="rounds"))
