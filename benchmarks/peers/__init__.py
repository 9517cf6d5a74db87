"""The bare job under Celery, dramatiq, taskiq and arq; run in `.venv-bench`, each with its own worker command."""
