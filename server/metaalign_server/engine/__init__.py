"""The only package that imports vLLM.

    process        start and stop of the engine
    installation   our hooks, and the proof that they work
    handlers       vLLM's own handlers, called from the routes
    requests, refusals, constraints, request_schema   what a request may contain
    rendering      the one hook in vLLM's rendering: tiers before the dialogue
    generation     the one wrapper around `engine.generate`
    streaming, dialects   answers in the format of each protocol

It imports nothing itself, so that settings can be checked and the environment prepared before vLLM loads.
"""
