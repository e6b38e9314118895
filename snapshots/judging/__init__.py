"""What follows from the evidence: verdicts, gates, fall-backs, and what may be deleted."""
