"""Names of `casync_compat.shown`: locators as they may be shown."""

from casync_compat.shown import shown, without_login

__all__ = ["shown", "without_login"]
