"""Rows as people look at them, and the self-contained page that shows them in a browser."""
