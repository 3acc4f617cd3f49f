"""Simulus (arXiv 2502.11537): REM's successor, with a curious actor and returns and rewards as classes."""
