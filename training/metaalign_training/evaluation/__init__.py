"""Evaluation: suites of items, scoring of answers, statistics, and the report with one picture a claim."""
