"""Commands for the search index: see what a shopper finds, and build a new index beside the old one.

Belongs here: these commands and what they print. Does not belong here: searching and building (`derived/search/`),
making some documents right (`tieout rebuild`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.stores import InPod, chosen_pods, open_servers, show_rows
from cli.confirming import DryRun, Intent, is_said
from cli.conventions import AsJson
from contracts.text import counted


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("reindex")(reindex)
    app.command("search")(search)


def search(
    merchant: Annotated[str, typer.Argument(help="The merchant whose products are searched.")],
    text: Annotated[str, typer.Argument(help="What a shopper types; nothing: every product on offer.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Products that are shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Search as a shopper of a merchant does; each product with its score, and what the index says of it."""
    from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
    from derived.search.asking import Question, Search
    from derived.search.folders import base_folder
    from oltp.directory import pod_of

    with open_servers() as (values, _):
        home = pod_of(values.control_dsn, merchant)
        asked = Question(merchant_id=merchant, text=text, limit=limit)
        among = [one.pod for one in values.pods] if home.epoch > FIRST_DIRECTORY_EPOCH else []
        found = Search(base_folder(values)).ask(home.pod, asked, moved_among=among)
    rows = [
        (hit.product.product_id, hit.product.title, None if hit.score is None else round(hit.score, 2), hit.product.pod)
        for hit in found.hits
    ]
    title = f"{counted(found.total, 'product')}, as of cut {found.applied_cut} of {found.pod}"
    show_rows(as_json, title, ("product_id", "title", "score", "pod"), rows)


def reindex(pod: InPod = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Build a new search index from the lake beside the old one, then let readers switch to it.

    For a new version of the index's fields, or for an index whose files are damaged. Shoppers search in the old index
    until the new one is complete; the consumer of the pod waits meanwhile, so what is found is late by as long as this
    takes. Nothing is lost, and it may be repeated.
    """
    from derived.search.reindexing import outlook
    from derived.search.reindexing import reindex as build_anew

    rows = []
    with open_servers() as (values, progress):
        chosen = chosen_pods(values, pod)
        standing = [outlook(values, one.pod) for one in chosen]
        details = [
            f"{one.pod}: {counted(one.products, 'product')} as of cut {one.cut}, in {one.generation or 'no index'} of "
            f"schema {one.schema}."
            for one in standing
        ]
        what = f"A new search index of {', '.join(one.pod for one in chosen)} is built from the lake, and then used."
        document = {"what": what, "details": details, "dry_run": True}
        if not is_said(Intent(what=what, question="", details=details, document=document), dry_run, as_json):
            return
        for one in chosen:
            with progress.step(f"Building the index of {one.pod}"):
                done = build_anew(values, one.pod)
            rows.append((done.pod, done.generation, done.aggregates, done.cut, ", ".join(done.removed)))
    show_rows(as_json, "Built anew", ("pod", "generation", "aggregates", "cut", "removed"), rows)
