"""A model as a judge of answers: what it is shown, what is taken from it, and how far people agree with it.

fence        texts under judgement as data that cannot give orders
prompt       rubric and answer as one message
verdict      the judge's own object, strictly read
grading      answers of a study -> grades in the store
pairs        two answers side by side, in both positions
calibration  the judge against people
"""
