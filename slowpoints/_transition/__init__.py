"""A network as one pure function from a state and an input to the next state."""
