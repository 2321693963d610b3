#!/bin/sh
# backup.sh FOLDER: the running service's databases, volumes and secrets as files in FOLDER, which only its owner reads.
# Studies may go on meanwhile; what they write during the copy is in it or not.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
umask 077
mkdir -p "$1"
folder=$(cd "$1" && pwd)
# neither git nor a submitted working directory takes the passwords along, should the folder lie in one
echo '*' > "$folder/.gitignore"
cd "$(dirname "$0")"
. ./settings.sh

for database in optuna mlflow mlflow_auth; do
  docker compose exec -T postgres pg_dump --username=postgres --format=custom "$database" > "$folder/$database.dump"
done
# 1 is what tar says of files that changed while it read them
docker compose exec -T mlflow tar --create --directory=/var/lib/fierce mlflow > "$folder/mlflow.tar" || [ $? -eq 1 ]
docker compose exec -T head tar --create --directory=/var/lib/fierce home studies > "$folder/head.tar" || [ $? -eq 1 ]
tar --create --directory="$secrets_folder" . > "$folder/secrets.tar"
ls -l "$folder"
