"""The process on each node: sees its pods, starts or resumes them, saves them when ordered or on its own notice."""
