"""Where model weights come from."""
