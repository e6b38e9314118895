"""The store: named, immutable blobs in a directory or an object store, confined, bounded and signed."""
