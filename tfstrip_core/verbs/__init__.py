"""The verbs: one file, one verb."""
