"""Files that tnfd writes for people: transcripts and status files. Atomic, never over foreign ones."""
