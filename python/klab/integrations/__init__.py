"""These operators under the models of other packages."""
