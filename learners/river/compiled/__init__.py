"""River's linear family as compiled loops over arrays: another execution of the same model (extra ``fast``)."""
