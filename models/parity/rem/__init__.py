"""Parity with REM's original code (leor-c/REM): every output of a golden file, computed by our classes."""
