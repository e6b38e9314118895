"""Events that all look alike, read many at once (extra ``fast``)."""
