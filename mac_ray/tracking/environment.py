"""What mlflow is told by the environment, which it reads while it is imported: so this comes before."""

import os

# Nothing calls home, and a server that does not answer costs seconds of one attempt, not four minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go through our format, which hides passwords
}


def tame_mlflow() -> None:
    """What the user has set stays."""
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
