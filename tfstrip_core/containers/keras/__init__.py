"""Keras's own files: archives, and HDF5 of every layout."""
