"""What a model is, whether it computes right, what this machine can do; nothing here prints."""
