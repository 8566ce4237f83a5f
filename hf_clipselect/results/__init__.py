"""What comes back from a selection: the result, the scores table, the run's folder and its report."""
