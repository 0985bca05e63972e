"""The parts of the filesystem backend."""
