"""The commands of a pod. Each use case has its file; each command is a frozen value that `execute` runs.

Belongs here: reading what a use case needs, calling the domain, writing the result. Does not belong here: rules
(`oltp/domain/`), SQL of tables (`oltp/store/`).
"""
