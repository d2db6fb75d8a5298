"""SavedModels: what inference reaches, and how the rest goes."""
