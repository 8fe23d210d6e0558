"""What a writer of a copy says in its own transaction, so that the copy's witness knows whose write it was.

Belongs here: these words, which writers and witnesses share. Does not belong here: writing them (`derived/`), looking
for them (`witness/`).
"""

from __future__ import annotations

VIEW_WRITER = "tieout.read_models"
"""The prefix of a writer's message in the write-ahead log; its content is the read model's name."""
ANNOUNCE_VIEW = "select pg_logical_emit_message(true, %s, named) from unnest(%s::text[]) as named"
"""Writes that message for each read model that the transaction may change; it goes with the transaction."""
LAKE_WRITER = "tieout"
"""The author of each snapshot that a writer of ours adds to the lake; the snapshot's message says which writer."""
INDEX_COMMITS = "commits.json"
"""The file beside a search index in which its writer says whether a commit is under way, and which one was the last."""
