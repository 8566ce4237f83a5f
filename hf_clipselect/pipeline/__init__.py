"""The order of a run: two doors prepare, then one sequence of functions for both."""
