"""What is decided, and by whom: the ledger and its head, epochs, the charter, erasures and checked labels."""
