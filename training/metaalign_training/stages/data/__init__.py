"""build-data: the MetaAlign Dataset, from the synthetic world or from a user's instructions and a teacher.

synthetic      rows of the synthetic world
instructions   rows of a user's instructions: filter, compare, ask the teacher, annotate
sources        the user's files and data sets
filters        what is left out, and why
library        the preferences that are drawn from
comparisons    which two preferences compete for an instruction
card           the data card
"""
