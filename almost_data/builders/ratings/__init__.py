"""Ratings: every response of the ladder scored by a reward model, or by a judge."""
