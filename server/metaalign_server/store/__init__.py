"""Storage for tenants, keys, profiles and feedback. It has no rules; those are in `platform`."""
