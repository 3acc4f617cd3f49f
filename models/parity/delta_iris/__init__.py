"""Parity with Delta-IRIS's original code (vmicheli/delta-iris): every output of a golden file, by our classes."""
