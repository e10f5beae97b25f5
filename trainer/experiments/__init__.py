"""Several runs of a recipe compared: cross-validation, searches, comparisons."""
