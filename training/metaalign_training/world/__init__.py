"""The synthetic world: facts, questions, preferences in many wordings, right answers, and verifiers.

facts       animals, contested topics, dual-use requests
languages   what can be said of them, in English and Spanish
phrases     how people word preferences
drafts      what a sample is about, drawn by seed; what is held out of training
answers     the answer that obeys every preference
samples     drafts in words, with the right answer and its check
verifiers   whether an answer passes its check
"""
