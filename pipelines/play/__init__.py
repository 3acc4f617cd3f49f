"""Play: watch an agent, play in the game or inside its world model, compare the two, and look at episodes."""
