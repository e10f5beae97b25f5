"""Scoring on a cluster of Ray."""

import cluster  # noqa: F401  # first, since it says so where Ray is not installed
