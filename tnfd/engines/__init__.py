"""The engines: what turns one encoded cut into text. Adapters of ``ports.engine``; none imports another."""
