"""The full retrain: its data, its triggers, its gates."""
