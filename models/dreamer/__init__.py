"""The Dreamer family: worlds learned from play, or from videos first, and actors that practise there."""
