"""From a folder to finished files: watching, settling, hashing, and telling the house."""
