"""What the filesystem backend is made of."""
