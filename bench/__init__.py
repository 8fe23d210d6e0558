"""Measurements, each with a reference taken in the same run. Nothing in the product imports from here."""
