"""Benchmarks, each with a reference measured in the same run. No product code imports from here."""
