"""Grading by rule: choice, number, exact, contains; how a question of a bank says that it is marked."""
