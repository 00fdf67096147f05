"""The deployment without containers: `make stack-test` and `make docker-check`."""
