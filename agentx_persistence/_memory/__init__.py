"""The parts of the memory backend."""
