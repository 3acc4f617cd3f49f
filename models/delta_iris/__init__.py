"""Delta-IRIS: tokens tell what changed between two frames, given the first and the action (arXiv 2406.19320)."""
