"""TensorFlow's checkpoints: object graphs, names, and the first version's single files."""
