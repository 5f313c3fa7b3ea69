"""Ratings: every response scored by a reward model, or by a judge."""
