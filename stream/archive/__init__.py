"""The archive of events, and erasing from it and from everything else."""
