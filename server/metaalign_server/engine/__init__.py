"""The one package that imports vLLM.

    process        the engine's start and stop
    installation   our hooks, and the proof that they work
    handlers       vLLM's own handlers, called from the routes
    requests, refusals, constraints, request_schema   what a request may be
    rendering      the one hook in vLLM's rendering: tiers before the dialogue
    generation     the one wrapper of `engine.generate`
    streaming, dialects   answers, as each protocol writes them

Nothing is imported here, so that settings can be checked and the environment prepared before vLLM loads.
"""
