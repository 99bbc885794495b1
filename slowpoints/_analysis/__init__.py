"""What is read from a network and its points together."""
