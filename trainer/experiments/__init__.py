"""Several runs of a recipe: comparisons, cross-validation and hyperparameter search."""
