"""What is kept of a study in MLflow, and what can be read back: runs, description, status."""
