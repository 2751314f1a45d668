"""The ordered stories: one checkpoint, one restore, one run."""
