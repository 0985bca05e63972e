"""How near this package comes to the raw client library: see ``python -m benchmarks --help``."""
