"""The fields of the index, and their version.

Another schema, or another analyzer, needs another `SCHEMA`: the engine refuses an index of other fields, and cannot see
that terms were cut differently. Each version has its own folder, so the old index serves until the new one is built.

Belongs here: fields and their weights, opening an index. Does not belong here: filling a document (`documents.py`),
folders and which index is the current one (`folders.py`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tantivy import Index, Schema, SchemaBuilder

from derived.search.text import LANGUAGES, PLAIN, analyzer

SCHEMA = "v2"
"""The version of what this module, `text.py` and `documents.py` say."""
READABLE = ("v1",)
"""Earlier versions whose indexes answer every question of this one, until the new one is built (`reindexing.py`)."""

KEY = "key"
MERCHANT = "merchant_id"
KIND = "kind"
IS_OFFERED = "is_offered"
BRAND = "brand"
BRAND_WORDS = "brand_words"
WORDS = "words"
"""All words of a product as written: for typos and for completing what was typed."""
ATTRIBUTES = "attributes"
VALUE_MARK = "="
"""Before every value of an attribute: the engine would take 2026-01-31T00:00:00Z for a moment, which no text finds."""
DIRECTORY_EPOCH = "directory_epoch"
"""Of a product: since which epoch of the directory its merchant lives in the pod."""
PRICES = "prices_micro"
"""The prices of the offered variants in micro-units, for ranges."""
PRICE_FROM = "price_from_micro"
"""The lowest of them, for sorting."""
ROW = "row"
"""What was indexed, as JSON: exact numbers and texts. Comparisons and pages read it."""

TITLE, BODY, DETAILS = "title", "body", "details"
WEIGHTS = ((TITLE, 3.0), (BODY, 1.0), (DETAILS, 1.0))
"""Texts that are stemmed, and what a match in them weighs; details are SKUs, variants' titles and attributes."""
BRAND_WEIGHT = 2.0


def text_field(text: str, language: str) -> str:
    """Return the field of a text in a language."""
    return f"{text}_{language}"


@cache
def schema() -> Schema:
    """Return the fields of the index."""
    builder = SchemaBuilder()
    for name, is_stored, is_fast in ((KEY, True, False), (MERCHANT, False, False), (KIND, False, False)):
        builder.add_text_field(name, stored=is_stored, fast=is_fast, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(BRAND, fast=True, tokenizer_name="raw", index_option="basic")
    for text, _ in WEIGHTS:
        for language in LANGUAGES:
            builder.add_text_field(text_field(text, language), tokenizer_name=_named(language))
    builder.add_text_field(BRAND_WORDS, tokenizer_name=_named(PLAIN))
    builder.add_text_field(WORDS, tokenizer_name=_named(PLAIN), index_option="basic")
    builder.add_json_field(ATTRIBUTES, fast=True, tokenizer_name="raw", index_option="basic")
    builder.add_boolean_field(IS_OFFERED, indexed=True)
    builder.add_integer_field(PRICES, indexed=True, fast=True)
    builder.add_integer_field(PRICE_FROM, indexed=True, fast=True)
    builder.add_bytes_field(ROW, stored=True)
    # The engine numbers fields in this order: what is new comes last, so that queries fit the indexes of READABLE.
    builder.add_integer_field(DIRECTORY_EPOCH, indexed=True, fast=True)
    return builder.build()


def open_index(folder: Path) -> Index:
    """Open the index in a folder, or begin one; its reader shows new commits only after `reload()`."""
    folder.mkdir(parents=True, exist_ok=True)
    return _registered(Index(schema(), path=str(folder)))


def open_any(folder: Path) -> Index:
    """Open an index to read, of this version or of a readable one."""
    return _registered(Index.open(str(folder)))


def _registered(index: Index) -> Index:
    for name in (*LANGUAGES, PLAIN):  # an index does not store its analyzers
        index.register_tokenizer(_named(name), analyzer(name))
    index.config_reader("manual")
    return index


def _named(language: str) -> str:
    return f"tieout_{language}"
