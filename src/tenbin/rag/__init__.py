"""RAG fitness: the same questions inside longer and longer texts, with and without their answer.

passages   texts that distract, from the study's own passages or a corpus
bm25       which of them are lexically near a question
contexts   texts of a given length with the needed passage at a given depth
outcome    what an answer did: right, from elsewhere, from nowhere, "not in the text"
measure    asks a model and sums up by length and depth
result     what is kept of it
"""
