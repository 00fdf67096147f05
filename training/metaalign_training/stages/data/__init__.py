"""build-data: the MetaAlign Dataset, from the synthetic world or from a user's instructions and a teacher.

synthetic      rows of the synthetic world
instructions   rows of a user's instructions: filter, compare, ask the teacher, annotate
sources        the user's files and data sets
filters        which texts are left out
left_out       what filters, teacher and annotator left out of a source, and what to change
library        the preferences that are drawn from
comparisons    which two preferences compete for an instruction
card           the data card
"""
