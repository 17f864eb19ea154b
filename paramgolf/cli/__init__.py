"""The command line. Thin: a command parses, calls and prints; importing it imports no torch."""

from paramgolf.cli.entry import main as main
