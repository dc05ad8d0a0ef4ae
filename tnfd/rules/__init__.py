"""Everything that can be decided without touching anything: pure functions and small value objects."""
