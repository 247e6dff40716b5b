"""Training as a plain function of a config and a worker; knows neither Ray nor MLflow."""
