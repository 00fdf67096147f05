"""Where answers come from. No stage asks a model in any other way.

judge        ratings, and the better of two answers, by a language model
generation   answers of a checkpoint or an endpoint, one or more for each prompt
endpoint     a teacher or judge whose answers are kept
remote       a model behind an OpenAI-compatible API
offline      a model in an offline vLLM engine; the only module that imports vLLM
journal      answers on disk, so that a killed run asks only for the rest
prompts      conversations as a checkpoint's token ids
chat         a question, its answer, and the protocol of what is asked
"""
