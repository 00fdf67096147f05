"""What preferences cost, measured against stock vLLM."""
