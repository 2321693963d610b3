# Sourced by the scripts beside it: what compose would take from .env, below what the environment says
if [ -e .env ]; then
  environment=$(export -p)
  . ./.env
  eval "$environment"
fi
secrets_folder=${FIERCE_SECRETS:-../secrets}
