"""MetaAlign's server: vLLM's engine and protocols, with `preferences` on every inference route."""
