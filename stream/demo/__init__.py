"""The demo, the drills, and the folder that ``init`` writes."""
