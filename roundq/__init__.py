"""A job queue for people who share a few machines and one home file system.

Importing this package does nothing and costs nothing; see ARCHITECTURE.md for where things are.
"""

__version__ = "1.0.0"
