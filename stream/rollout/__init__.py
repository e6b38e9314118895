"""Bringing a candidate to production: who answers which request, what is watched meanwhile, and when it goes on."""
