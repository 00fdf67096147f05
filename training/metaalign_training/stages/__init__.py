"""The stages of a recipe, in the order in which they run. They communicate through files: no stage imports another.

data         build-data: the rows that the other stages read
sft          supervised fine-tuning
samples      the best of several answers of the model, for rejection sampling (which trains in sft)
pairs        preference pairs, sampled from the model
dpo          preference optimisation on those pairs: DPO and other losses
grpo         learning from rewards online
evaluation   evaluate: answers, scores and the report
export       the checkpoint folder that servers load
"""
