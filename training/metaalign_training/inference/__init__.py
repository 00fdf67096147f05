"""Where answers come from: a checkpoint or an endpoint that is asked, a judge, and the journal that keeps the answers.

generation   answers of a checkpoint, by transformers or offline vLLM
endpoint     answers of a teacher or judge, over HTTP or by offline vLLM
judge        ratings and comparisons, through an endpoint
journal      answers on disk, so that a run that was killed asks only for the rest
"""
