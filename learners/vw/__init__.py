"""Vowpal Wabbit as a learner: its arguments and headers checked, its models taken over."""
