"""Pictures and words become model inputs; the same code trains, evaluates and serves."""
