"""The operator's commands, a module for each group; :mod:`stream.cli` puts them together."""
