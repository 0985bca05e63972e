"""What the memory backend is made of."""
