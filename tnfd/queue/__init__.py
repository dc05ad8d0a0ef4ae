"""Queues: what delivers the store's jobs to workers."""
