"""Containers: graphs of TensorFlow 1 in files of their own."""
