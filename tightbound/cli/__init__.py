"""The command line. Importing it loads no torch."""

from tightbound.cli.verbs import app, main

__all__ = ["app", "main"]
