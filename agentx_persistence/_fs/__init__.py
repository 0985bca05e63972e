"""The parts of the filesystem backend: durable files, locks, indexes and logs of messages."""
