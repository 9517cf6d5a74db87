"""The status of the deployment for its operators."""
