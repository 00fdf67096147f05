"""Makes Meta-aligned checkpoints: data, SFT, evaluation, export."""
