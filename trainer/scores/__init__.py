"""From predictions and labels to scores with intervals."""
