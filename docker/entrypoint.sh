#!/bin/sh
# Starts one part of the service, with further arguments of its program, or any other command beside its secrets.
# Secrets come as files in /run/secrets and stay in files: what a program wants in a form of its own is written below
# /tmp, which is memory, so that `docker compose exec` finds it too and `docker inspect` shows nothing.
set -eu

given() { [ -e "/run/secrets/$1" ]; }
secret() { cat "/run/secrets/$1"; }
# replaces the file named by the first argument by its input, for this user alone
private() { (umask 077 && cat > "$1"); }

for role in optuna mlflow; do
  if given "${role}_database_password"; then
    printf '*:*:*:%s:%s\n' "$role" "$(secret "${role}_database_password")"
  fi
done | private "$PGPASSFILE"

if given mlflow_admin_password; then
  mkdir -p "$HOME/.mlflow"
  printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' \
    "$(secret mlflow_admin_password)" | private "$HOME/.mlflow/credentials"
fi

# nothing but configurations and reports passes through Ray's object store
object_store_bytes=200000000

part=$1
shift
case "$part" in
  ray-head)
    # no CPU or GPU of its own: trials run on workers, and a study's driver asks for none
    exec ray start --head --block --disable-usage-stats --port=6379 --dashboard-host=0.0.0.0 --dashboard-port=8265 \
      --num-cpus=0 --num-gpus=0 --object-store-memory="$object_store_bytes" "$@"
    ;;
  ray-worker)
    exec ray start --block --disable-usage-stats --address="$FIERCE_HEAD" --num-cpus="$FIERCE_CPUS" \
      --object-store-memory="$object_store_bytes" "$@"
    ;;
  mlflow-server)
    # a password is verified at a cost of some 50 ms, so a verified one is remembered for a minute
    printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nadmin_username = admin\n%s\n%s\n' \
      "$MLFLOW_AUTH_DATABASE_URI" \
      'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' \
      'auth_cache_ttl_seconds = 60' | private /tmp/basic_auth.ini
    MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_admin_password)
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_session_key)
    export MLFLOW_AUTH_CONFIG_PATH=/tmp/basic_auth.ini MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
    # a browser's request by any other name is refused, as is one that a page of another site makes
    names="localhost:*,127.0.0.1:*,mlflow:5000,$FIERCE_MLFLOW_ADDRESS${FIERCE_MLFLOW_HOSTS:+,}$FIERCE_MLFLOW_HOSTS"
    origins=
    for each in $(echo "$FIERCE_MLFLOW_ADDRESS,$FIERCE_MLFLOW_HOSTS" | tr ',' ' '); do
      origins="$origins${origins:+,}http://$each,https://$each"
    done
    export MLFLOW_SERVER_ALLOWED_HOSTS="$names" MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="$origins"
    exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 2 \
      --uvicorn-opts '--timeout-worker-healthcheck 60' --artifacts-destination /var/lib/fierce/mlflow "$@"
    ;;
  dashboard-server)
    # one process: optuna-dashboard keeps the trials it has read in memory
    exec gunicorn --chdir /opt/fierce/service --bind 0.0.0.0:8080 --workers 1 --threads 4 --worker-tmp-dir /tmp \
      --access-logfile - "$@" 'dashboard:application()'
    ;;
  *)
    exec "$part" "$@"
    ;;
esac
