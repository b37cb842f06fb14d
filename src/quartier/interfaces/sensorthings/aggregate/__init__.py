"""``$apply`` on Observations: answered from the twin's roll-ups where that is exact, else from the observations.

``plan`` says what is asked for, ``buckets`` knows civil time, ``sql`` writes the statement, ``run`` carries it out.
Values that a check found wrong stay out of the statistics, as everywhere else in the twin.
"""
