"""Parity with JOWA's original code (CJReinforce/JOWA): every output of a golden file, computed by our classes."""
