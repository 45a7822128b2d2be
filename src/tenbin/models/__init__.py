"""Models: shapes, loading, encoding, attention, adapters."""
