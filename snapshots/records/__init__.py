"""What is written into the store, a module for each kind of record."""
