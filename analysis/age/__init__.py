"""The report's page of the age benchmark: figures 1, A1, A2, A3 and A5."""
