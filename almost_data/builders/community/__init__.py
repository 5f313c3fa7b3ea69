"""Community comparisons builder."""
