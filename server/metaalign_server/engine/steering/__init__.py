"""Steering at decoding time, in the engine's process: several prompts of one answer run as one group.

    groups      what the API process says about a request: its branches and their coefficients
    scheduler   vLLM's scheduler with groups: all members of one compute a token in the same step, or none does
    runner      mixes the members' logits before vLLM's sampler, and gives each member the token that was drawn
    mixing      that mixture, as a function of a tensor

Everything is imported late and little of it, because the engine's process imports it before it does anything.
"""
