"""Concurrency limiters that others have published, written again from their rules, to measure ours against.

Each takes ``least`` and ``most`` so that all play in the same range, and starts where its authors start it. Where a
published default would only make a rule look worse in this range (a floor of 20, a timeout of 5 s for calls of
10 s), the kinder value is used; each file says which.
"""
