"""The report's page of the hyperspectral benchmark: unmixing, table 1 and figures A1 to A4 and A6."""
