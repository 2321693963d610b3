#!/bin/sh
# restore.sh FOLDER: puts back what backup.sh wrote, in place of what the service holds now, and leaves it stopped but
# for PostgreSQL; `make up` then starts it.
set -eu
[ $# -eq 1 ] && [ -e "$1/mlflow_auth.dump" ] || { echo "usage: $0 FOLDER, which backup.sh has written" >&2; exit 2; }
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
. ./settings.sh

# the passwords that PostgreSQL and MLflow know; a running PostgreSQL keeps its own
if [ ! -e "$secrets_folder/postgres_password" ]; then
  mkdir -p "$secrets_folder"
  chmod 0700 "$secrets_folder"
  tar --extract --same-permissions --directory="$secrets_folder" < "$folder/secrets.tar"
fi
docker compose build mlflow
docker compose stop mlflow dashboard head worker
docker compose up --detach --wait postgres
for database in optuna mlflow mlflow_auth; do
  docker compose exec -T postgres pg_restore --username=postgres --clean --if-exists --exit-on-error \
    --dbname="$database" < "$folder/$database.dump"
done
docker compose run --rm --no-deps -T mlflow tar --extract --directory=/var/lib/fierce < "$folder/mlflow.tar"
# the users that were restored know the password of the backup's day
docker compose run --rm --no-deps -T mlflow python - < mlflow_password.py
docker compose run --rm --no-deps -T head tar --extract --directory=/var/lib/fierce < "$folder/head.tar"
