"""What a run leaves behind: a journal on disk, and the MLflow run that a separate process feeds from it."""
