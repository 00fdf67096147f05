"""Composes the parts into one program and runs it: start, gate, drain, stop."""
