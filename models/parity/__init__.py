"""Our numbers against those that golden files record of the originals: what is common, and a room for each family."""
