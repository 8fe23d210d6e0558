"""Search: the copy in which shoppers discover products, one Tantivy index per pod and version of the schema.

Belongs here: its documents, how text becomes terms, the store behind the port of keyed projections, and the questions
that a page asks. Does not belong here: what all keyed copies share (`derived/keyed/`), HTTP (`api/`).
"""
