"""What an evaluation consists of: who plays, the log of finished episodes, and films of some."""
