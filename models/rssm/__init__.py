"""The recurrent state-space model of the Dreamer family, and the networks around it: frames, latent actions, heads."""
