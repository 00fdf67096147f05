"""evaluate: a checkpoint or an endpoint is asked, scored and reported.

adapters                                   published formats and our own rows, as items
iheval, prefeval, guardrails, manyih       benchmarks with definitions of their own; styles: those of code
probe                                      requests as people type them to the demo, and names to copy
definitions                                published definitions of scores
items                                      a prompt, and how an answer to it is scored
readers                                    the option that an answer chooses, and whether it declines
evaluate                                   the run: ask, score, count; or score stored answers again
intervals                                  means and paired differences, with intervals over questions
results                                    what results.json and scores.jsonl hold
samples                                    some answers to read, good and bad
report, charts                             tables, charts, and systems compared question by question
"""
