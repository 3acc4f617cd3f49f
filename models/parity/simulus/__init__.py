"""Parity with Simulus's original code (leor-c/Simulus): every output of a golden file, computed by our classes."""
