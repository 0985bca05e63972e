"""How this package compares with others: see ``python -m benchmarks.peers --help``."""
