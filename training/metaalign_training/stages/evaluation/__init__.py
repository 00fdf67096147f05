"""evaluate: a checkpoint or an endpoint is asked, scored and reported.

adapters    published formats and our own rows, as items
items       one thing to ask, and how an answer to it is scored
evaluate    the run: ask, score, count
intervals   means with bootstrap intervals
report      tables, and one picture for each claim
"""
