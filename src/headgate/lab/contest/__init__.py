"""Policies side by side: `contestants` is who takes part, `compare` plays the same wishes with each of them."""
