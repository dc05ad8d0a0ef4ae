"""The service: what is installed for systemd or launchd, rendered from the configuration, and how it does.

Renders files, writes and removes those that it wrote itself, calls systemctl and launchctl. Asks nobody:
that is the command line's part.
"""
