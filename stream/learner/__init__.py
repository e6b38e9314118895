"""The process of one learner, and how the trainer speaks with it."""
