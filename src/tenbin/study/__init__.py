"""A study: every model at every learning rate, from the data to the report."""
