"""Building the MetaAlign Dataset: from the synthetic world, or from a user's instructions and a teacher."""
