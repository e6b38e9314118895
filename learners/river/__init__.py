"""River as a learner: its models proved, loaded without running code, and taken over from plain River."""
