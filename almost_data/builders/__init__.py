"""The built-in dataset builders, one file or folder each."""
