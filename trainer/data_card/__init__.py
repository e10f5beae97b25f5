"""What a prepared data set's card says and shows."""
