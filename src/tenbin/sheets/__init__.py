"""Sheets for blind grading by people: written as XLSX, one a rater, and read back."""
