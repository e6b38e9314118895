"""Any two of learners, baselines and snapshots on the same labelled events: who loses less, and how certainly."""
