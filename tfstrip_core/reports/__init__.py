"""Results as people and machines read them: text, JSON, GitHub annotations, tables."""
