"""From MLflow to figures and tables."""
