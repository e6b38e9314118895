"""The past of a lineage in figures, thinned with age: it outlives the snapshots that it was taken from."""
