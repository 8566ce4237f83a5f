"""The order of a run: `prepare_dataset` or `prepare_embeddings`, then one sequence of stages for both."""
