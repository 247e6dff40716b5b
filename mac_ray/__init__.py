"""Masked contrastive video-text pretraining as an experiment platform on Ray."""
