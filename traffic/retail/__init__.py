"""Import of UCI Online Retail: from file rows to orders, refunds, adjustments and stock, exact to the last decimal.

Belongs here: all code that depends on these files. Does not belong here: the rules of orders (`oltp/`).
"""
