"""The stages of a recipe, in the order in which they run. They communicate through files: no stage imports another.

data         build-data: the rows that the other stages read
sft          supervised fine-tuning
pairs        preference pairs, sampled from the SFT model
dpo          direct preference optimisation on those pairs
evaluation   evaluate: answers, scores and the report
export       the checkpoint folder that servers load
"""
