"""The proof that nothing acknowledged is lost, doubled or reordered, whatever fails meanwhile.

Writers (`writers.py`) in processes of their own change a store, and write down what they attempt
before each call and what came of it after (`recorder.py`). Meanwhile things fail (`phases.py`).
Then a checker (`checker.py`) compares what is stored, as the package gives it and raw
(`raw_*.py`), with what was written down. The short form is `test_faults.py`, the long one
``python -m tests.faults``.
"""
