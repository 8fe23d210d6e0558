"""UCI Online Retail: from the rows of its files to orders, refunds, adjustments and stock, to the last decimal.

Belongs here: everything that knows what these files mean. Does not belong here: what an order is (`oltp/`).
"""
