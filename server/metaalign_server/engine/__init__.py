"""The one package that imports vLLM: request models, rendering hook, launch, endpoint plugin.

Nothing is imported here, so that settings can be checked and the environment prepared before vLLM loads.
"""
