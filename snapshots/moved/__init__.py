"""Did the world move, or do labels lie? Measured on held-out rows and on snapshots that served before."""
