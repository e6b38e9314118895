"""Steps of River pipelines over arrays: each takes its state from the River object, and gives it back."""
