"""The cache of assembled answers: what may be asked again and again is put together once, and is never the truth.

Belongs here: the port, its adapter, what a reader and what the consumer of the log do with it. Does not belong here:
how an answer is put together (`oltp/`), and routes (`api/`).
"""
