"""The frozen encoder: every image and prompt goes through CLIP once."""
