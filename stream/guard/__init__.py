"""The guard's process, and the one in which it judges."""
