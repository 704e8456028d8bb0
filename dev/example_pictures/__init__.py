"""How each of the pictures of `examples/` is drawn or taken from its package."""
