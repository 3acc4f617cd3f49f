"""What families share whose actor-critic practises inside a world model."""
