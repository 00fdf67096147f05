"""What answers HTTP requests: one module for each group of routes."""
