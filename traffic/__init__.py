"""Traffic into the platform: import of real invoices, the seeded generator, and continuous live traffic.

Belongs here: everything that plays a merchant or a customer, always through the commands of `oltp`. Does not belong
here: rules of the business (`oltp/domain`), or any reading of a copy.
"""
