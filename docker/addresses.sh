#!/bin/sh
# Says where the running service is and how to log in, and writes what `fierce` needs to reach it from this machine
set -eu
cd "$(dirname "$0")"
. ./settings.sh
folder=$(cd "$secrets_folder" && pwd)
# what is published on all addresses is reached by this machine's own
published() {
  found=$(docker compose port "$@") || return
  echo "$found" | head -n 1 | sed 's/^0\.0\.0\.0:/127.0.0.1:/; s/^\[::\]:/127.0.0.1:/'
}
mlflow=http://$(published mlflow 5000)
dashboard=http://$(published dashboard 8080)
# a head in the host's own network publishes nothing: it listens there
ray=http://$(published head 8265 2> /dev/null || echo "${FIERCE_BIND:-127.0.0.1}:${FIERCE_RAY_PORT:-8265}")
umask 077
cat > "$folder/client.env" << E2
# . secrets/client.env: fierce, mlflow and ray on this machine then talk to the service
export RAY_API_SERVER_ADDRESS=$ray RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='$folder/ray_auth_token'
export FIERCE_DASHBOARD=$dashboard
export MLFLOW_TRACKING_URI=$mlflow MLFLOW_TRACKING_USERNAME=admin
MLFLOW_TRACKING_PASSWORD=\$(cat '$folder/mlflow_admin_password')
export MLFLOW_TRACKING_PASSWORD
E2
cat << E2
MLflow            $mlflow   user admin, password in $folder/mlflow_admin_password
optuna-dashboard  $dashboard   user admin, password in $folder/dashboard_password
Ray               $ray   token in $folder/ray_auth_token
on this machine:  . $folder/client.env && fierce submit quickstart
E2
