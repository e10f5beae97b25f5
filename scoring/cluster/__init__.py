"""Scoring on a cluster of Ray."""
