"""What verbs print, one file a screen."""
