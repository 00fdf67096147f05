"""Where tenants, keys, profiles and feedback are kept. No rules; those are in `platform`."""
