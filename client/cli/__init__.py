"""The command `weightcast`: everything the services do, from a terminal."""

from client.cli.app import main

__all__ = ["main"]
