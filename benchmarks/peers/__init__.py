"""The same job as a task of Celery, dramatiq, taskiq and arq; run in `.venv-bench`."""
