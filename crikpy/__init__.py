"""crikpy moves long-running jobs off machines that are about to die."""

__version__ = "0.1.0"
"""That of pyproject.toml; looking it up among the installed packages takes longer than the start of Python."""
