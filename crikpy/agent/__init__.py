"""The process on each node: sees its pods, starts or resumes them, saves them on order or on a notice."""
