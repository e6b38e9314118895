"""The state of a lineage, for people and scripts."""
