"""The verbs of the `worldline` command, grouped by what they are about. Only presentation lives here."""
