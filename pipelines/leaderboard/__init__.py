"""What stands on the leaderboard page: scores with their ancestors, tables made from them, and the page itself."""
