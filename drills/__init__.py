"""The drills: breaking each copy on purpose and looking whether the contract holds.

On top of all stores; knows nothing of how servers and workers are started (`stack/` passes a `System` in).
"""
