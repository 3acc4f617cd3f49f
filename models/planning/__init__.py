"""Planners over any `models.api.WorldModel`."""
