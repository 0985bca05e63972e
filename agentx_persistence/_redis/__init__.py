"""What the Redis backend is made of."""
