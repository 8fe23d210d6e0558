"""What must hold of the rows in a store: suites that people can read and extend, run by Great Expectations.

Belongs here: the suites as data, one module per store (`oltp.py`, `marts.py`), and running them (`judge.py`). Does not
belong here: comparisons of two stores (`reconcile/`), the asset checks that report suites (`checks/quality.py`).
"""
