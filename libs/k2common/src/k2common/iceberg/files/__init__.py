"""Data files, manifests and manifest lists: written, indexed, verified by their digests."""
