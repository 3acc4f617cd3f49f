"""Golden files of the Dreamer family: DreamerV2, APV, ContextWM, PreLAR and the naive baseline."""
