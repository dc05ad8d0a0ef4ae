"""The protocols between the rooms: what a room may ask of an adapter, and what that may raise."""
