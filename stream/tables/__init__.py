"""From a table to events and to a folder that works: ``produce``, ``check`` and ``init --from``."""
