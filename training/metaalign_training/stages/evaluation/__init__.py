"""evaluate: a checkpoint or an endpoint is asked, scored and reported.

adapters    published formats and our own rows, as items
items       a prompt, and how an answer to it is scored
evaluate    the run: ask, score, count
intervals   means with bootstrap intervals
results     what results.json and scores.jsonl hold
    report      tables, and one chart for each claim
"""
