"""Buckets: any fsspec URL, read with retries, pinned to versions, verified by checksums."""
