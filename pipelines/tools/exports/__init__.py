"""Artefacts in other people's layouts, each with a reader of ours."""
