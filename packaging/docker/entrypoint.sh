#!/bin/sh
# Becomes the user to whom the recordings belong (PUID, PGID), then tnfd. Started with --user it is that user already.
set -eu
umask 077
if [ ! -e /config/config.toml ] && [ -z "${TNFD_INBOX:-}" ]; then
  export TNFD_INBOX=/inbox
fi
if [ "$(id -u)" = 0 ]; then
  uid=${PUID:-1000} gid=${PGID:-1000}
  mkdir -p "$TNFD_STATE_DIR"
  # The state is tnfd's own; nothing else is ever given to another user.
  chown -R "$uid:$gid" "$TNFD_STATE_DIR"
  exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
    tnfd "$@"
fi
exec tnfd "$@"
