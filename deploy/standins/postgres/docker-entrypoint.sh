#!/bin/bash
# As the official image's, of which it knows what docker-compose.yml uses.
set -euo pipefail
if [ "${1:-}" = postgres ] && [ ! -e "$PGDATA/PG_VERSION" ]; then
  draft="$PGDATA.draft"
  rm -rf "$draft"
  initdb -D "$draft" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \
    --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C --no-instructions
  echo 'host all all all scram-sha-256' >> "$draft/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\";" | postgres --single -D "$draft" postgres
  mv "$draft" "$PGDATA"
fi
exec "$@"
