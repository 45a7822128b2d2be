"""Completions from local models and from servers."""
