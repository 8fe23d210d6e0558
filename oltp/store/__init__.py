"""The pod's tables, their SQL and their migrations."""
