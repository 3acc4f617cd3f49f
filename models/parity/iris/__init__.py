"""Parity with IRIS's original code (eloialonso/iris): every output of a golden file, computed by our classes."""
