"""The paper on one page: its studies planned to a budget, run in order of worth, and kept as one page."""
