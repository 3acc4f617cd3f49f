"""IRIS: a transformer over discrete frames is the world in which an actor-critic practises (arXiv 2209.00588)."""
