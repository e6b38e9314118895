"""Events out: to where they are read, by ``produce`` and over HTTP."""
