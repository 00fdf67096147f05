"""The rules over the store: keys, tenants, profiles, feedback, audit, and the limits of use. No HTTP, no vLLM."""
