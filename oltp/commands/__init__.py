"""What a pod can be asked to do: one use case a file, each a frozen value that `execute` runs in one transaction.

Belongs here: reading what a use case needs, calling the domain, writing what it says. Does not belong here: rules
(`oltp/domain/`), SQL of tables (`oltp/store/`).
"""
