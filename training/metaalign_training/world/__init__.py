"""The synthetic world: what it knows, how it is asked, what a right answer is, and how answers are judged."""
