"""Traffic into the platform: import of real invoices, the seeded generator, and continuous live traffic.

Belongs here: everything that acts as a merchant or a customer, always through the commands of `oltp`. Does not belong
here: business rules (`oltp/domain`), or reading a copy.
"""
