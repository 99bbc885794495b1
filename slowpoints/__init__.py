"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them."""
