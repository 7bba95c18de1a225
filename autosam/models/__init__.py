"""Pixels to mask logits: SAM, the prompt networks in front of it, and the baselines beside it."""
