"""What the Redis backend is made of, apart from the client library."""
