"""Integrations of klab's operators into models of other packages."""
