"""The two towers and what they see: masking, divided space-time ViT, text encoder, heads."""
