"""The report of a run, schema 1: the chain's records put into one document. Pure.

What was not measured is None with a reason beside it, never 0. `configs/schema/report.json`
is generated from these classes. The words and the table of figures import no record.
"""
