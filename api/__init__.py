"""The HTTP interface: commands and reads for storefronts, merchants' admin tools and operators.

Belongs here: who asks, which route answers, how requests and answers look. Does not belong here: what a command does
(`oltp/commands/`), what a copy holds (`derived/`), how the process is started (`stack/`).
"""
