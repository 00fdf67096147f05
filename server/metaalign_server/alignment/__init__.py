"""From a request's preferences to the Meta-Prompt that is served. No vLLM, no HTTP.

context   what is known of one request, from its route down to the engine
layers    what the store adds to it: policy, profiles, learned examples
aligner   layers -> Meta-Prompt and receipt, cached
service   what routes may ask of the server
"""
