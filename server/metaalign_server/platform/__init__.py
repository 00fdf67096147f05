"""The rules on top of the store: keys, tenants, profiles, feedback, audit and usage limits. No HTTP, no vLLM."""
