"""Parity with the IRIS thesis's code (gamecraftCZ/daisy): every output of a golden file, computed by our classes."""
