#!/bin/sh
# Run by the image of PostgreSQL at its first start: a role for each client, owner of its own databases and no more
set -eu
for role in optuna mlflow; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=optuna \
    --set=role="$role" --set=password="$(cat "/run/secrets/${role}_database_password")" << 'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
SQL
done
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=optuna << 'SQL'
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
ALTER DATABASE optuna OWNER TO optuna;
REVOKE ALL ON DATABASE optuna, mlflow, mlflow_auth FROM PUBLIC;
SQL
