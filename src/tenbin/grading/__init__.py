"""Grades of a question bank's answers: the store, what is graded, sheets for people, agreement, points."""
