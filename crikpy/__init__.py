"""crikpy moves long-running jobs off machines that are about to die."""

from importlib.metadata import version

__version__ = version("crikpy")
