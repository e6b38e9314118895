"""Evidence that a learner forgets: losses, looks at frozen rows, and pairs on fresh events. Pure."""
