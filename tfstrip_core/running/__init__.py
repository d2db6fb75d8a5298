"""Models run in processes of their own: what needs a framework, and may run what a model brings along."""
