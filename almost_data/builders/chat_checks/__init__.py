"""What the checks of chat replies look for, one file a check or two."""
