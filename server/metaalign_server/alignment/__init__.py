"""Turns a request's preferences into the Meta-Prompt that is served. No vLLM, no HTTP.

context   the state of one request, from its route down to the engine
layers    what the store adds to it: policy, profiles, learned examples
aligner   layers -> Meta-Prompt and receipt, cached
service   the server's interface for the routes
"""
