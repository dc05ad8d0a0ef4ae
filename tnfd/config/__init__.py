"""The configuration: what may be set, where it is read from, and what is wrong with it.

The one place that knows the TOML file and the environment; everybody else gets a checked ``Config``.
"""

from tnfd.config.load import check_text, load_config, load_leniently
from tnfd.config.schema import (
    ENGINE_TYPES,
    FORMATS,
    BudgetConfig,
    Config,
    DaemonConfig,
    EngineConfig,
    InboxConfig,
    PrivacyConfig,
    RetentionConfig,
    available_engines,
    default_engine,
)
from tnfd.config.secret import Secret, base_url_of, secret_of
from tnfd.config.settings import choice_of, no_engine, require_runnable, resolve_settings

__all__ = [
    "ENGINE_TYPES",
    "FORMATS",
    "BudgetConfig",
    "Config",
    "DaemonConfig",
    "EngineConfig",
    "InboxConfig",
    "PrivacyConfig",
    "RetentionConfig",
    "Secret",
    "available_engines",
    "base_url_of",
    "check_text",
    "choice_of",
    "default_engine",
    "load_config",
    "load_leniently",
    "no_engine",
    "require_runnable",
    "resolve_settings",
    "secret_of",
]
