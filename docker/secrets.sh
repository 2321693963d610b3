#!/bin/sh
# Makes each secret of the service that is missing: 256 random bits in a file of its own.
# Containers read the files as another user, so the files are readable and their folder is not: on this machine its
# owner alone comes in, while a mounted file needs no way through the folder.
set -eu
cd "$(dirname "$0")"
. ./settings.sh
folder=$secrets_folder
umask 077
mkdir -p "$folder"
chmod 0700 "$folder"
for name in postgres_password mlflow_database_password optuna_database_password \
  mlflow_admin_password mlflow_session_key ray_auth_token dashboard_password; do
  [ -s "$folder/$name" ] && continue
  # written aside and renamed: a file that is there is whole
  od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$folder/.$name"
  chmod 0444 "$folder/.$name"
  mv "$folder/.$name" "$folder/$name"
  echo "made ${folder#../}/$name"
done
if [ ! -e "$folder/aws_credentials" ]; then
  printf '[default]\n# for studies in s3://…\n# aws_access_key_id =\n# aws_secret_access_key =\n' > "$folder/aws_credentials"
  chmod 0644 "$folder/aws_credentials"
fi
