"""How well embeddings retrieve each other: exact ranks, metrics, protocols, intervals, collapse alarm."""
