"""The study file: what it may say, where each value stands in it, and the trials that it means."""
