"""Bytes: how the containers' building blocks are laid out. Nothing here knows what a model is."""
