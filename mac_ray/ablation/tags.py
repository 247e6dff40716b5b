"""Names of the tags by which the runs of a sweep are found in MLflow."""

ROW_TAG, SEED_TAG = "mac_ray.row", "mac_ray.seed"
