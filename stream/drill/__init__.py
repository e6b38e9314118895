"""Catastrophes on purpose: what is done, to whom, and the card that says how it went."""
