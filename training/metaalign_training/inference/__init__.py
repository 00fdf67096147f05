"""Where answers come from. Above, what is asked for; below, who is asked.

judge        ratings, and the better of two answers, by a language model
generation   answers of a checkpoint or an endpoint, several to a prompt
endpoint     a teacher or judge whose answers are kept
remote       the model behind an OpenAI-compatible endpoint
offline      the model in an offline vLLM engine; the one module that imports vLLM
journal      answers on disk, so that a run that was killed asks only for the rest
prompts      conversations as token ids of a checkpoint
chat         one question and its answer
"""
