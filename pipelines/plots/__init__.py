"""Pictures of a run: small PNGs, drawn with matplotlib's Agg canvas and Pillow, never with pyplot's global state."""
