"""Adapters on the two heads of CLIP: training on cached features, keeping, saving, loading."""
