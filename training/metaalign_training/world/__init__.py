"""The synthetic world: facts, questions, preferences in many wordings, right answers, and verifiers.

facts       animals, contested topics, dual-use requests
languages   what can be said of them, in English and Spanish
phrases     how people word preferences
drafts      what a sample is about, drawn by seed; what is held out of training
answers     the answer that obeys every preference
sample      a conversation, its right answer, and the check
samples     drafts in words
verifiers   whether an answer passes its check

In ordinary wording, which is data (`wordings/*.yaml`):

patterns    sentences with alternatives
values      names, closings and sources of every shape
ordinary    how people and operators ask for a preference, and what asks for nothing
surface     how people type
staging     what scenes are made of
scenes      whole conversations
copying     what a new model learns first
"""
