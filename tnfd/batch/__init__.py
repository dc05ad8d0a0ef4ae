"""The one-shot way to use the house: files and folders, once, beside a running daemon or without one."""
